"""Campaigns over the life of instances: the same jobs and the same events, drawn from a seed, for fleetd and a rival.

`schedule` draws jobs and events, `stage` builds the hosts, `ways` carries the events out, `life` reads when each
process served, `run` plays a whole campaign and counts. Tests play a short one, those in tests/lab/long the whole.
"""
