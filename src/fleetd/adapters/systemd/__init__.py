"""systemd over D-Bus: our units' states, start, stop and quiet; and what fleetd tells systemd of itself.

The only place from which a unit is started or stopped. It never sends SIGKILL.
"""
