"""The simulated world: queues, instances, database and host by the second, and fleetd's ports into it.

No policy decides anything here.
"""
