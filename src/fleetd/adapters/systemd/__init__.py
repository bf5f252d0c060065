"""systemd over D-Bus: our units' states, start, stop and quiet; and what fleetd tells systemd about itself.

Units are started and stopped from nowhere else. It never sends SIGKILL.
"""
