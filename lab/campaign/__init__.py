"""Campaigns over the life of instances: the same jobs and events, drawn from a seed, for fleetd and for a rival.

`schedule` draws jobs and events, `stage` builds the hosts, `ways` carries out the events, `life` reads when each
process served, and `run` plays a campaign and counts. Most tests play a short one; those in tests/lab/long a full one.
"""
