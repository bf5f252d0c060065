"""This host: its memory, pressure, clock and unit files, and the small file in which fleetd remembers its orders.

What a shortage of memory or cores means is decided in core/instances/constraints.py, never here.
"""
