"""The history in one SQLite file, bounded by age and size: written by a thread of its own, read by fleetctl.

Lost history is nothing else lost, so nothing here reaches a tick.
"""
