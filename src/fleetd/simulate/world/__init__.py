"""The simulated world: queues, database, and hosts with their instances by the second, and fleetd's ports into it.

Nothing is decided here; policies give orders from outside.
"""
