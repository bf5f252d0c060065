"""The history in one SQLite file, bounded by age and size: written by a thread of its own, read by fleetctl.

When it is lost nothing else is, so nothing here reaches a tick.
"""
