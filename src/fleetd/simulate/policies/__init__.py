"""What fleetd is compared with: how others decide, and two yardsticks that know more than any daemon can.

fleetd's own decisions are made by the core and are not repeated here.
"""
