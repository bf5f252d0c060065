"""What fleetd is compared with: how others decide, and two yardsticks that know more than any daemon can.

fleetd's own decisions are the core's; nothing of them is written again here.
"""
