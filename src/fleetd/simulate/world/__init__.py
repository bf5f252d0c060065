"""The simulated world: queues, instances, database and host by the second, and fleetd's ports into it.

Nothing is decided here; policies give orders from outside.
"""
