"""Probes beside fleetd: what systemctl, Redis, psql and /proc say, for each claim of `fleetctl status --json`.

look.py asks them, claims.py has the table, wrong.py says what may stand beside no tick, acts.py what an admin does.
"""
