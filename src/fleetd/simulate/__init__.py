"""The daemon's own tick in a simulated world: what a policy would have done with a day of traffic.

run.py runs policies through a trace. The packages are what it needs. No real Redis, Postgres or systemd is touched.
"""
