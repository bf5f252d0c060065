"""What an admin should know: how bad each thing is, why, and what to do about it.

Judged from a status, from a recording, or from systemd when fleetd is down. These are values: nothing here draws or
imports rich.
"""
