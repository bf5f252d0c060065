"""fleetd's own name on the bus, `org.fleetd1`: the connection, what is offered there, people's orders, and who asks.

What an order does is decided in core/instances/orders.py, never here.
"""
