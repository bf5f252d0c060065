"""The outside world: everything that speaks a protocol, reads a file of the system or calls a client library.

Each adapter implements a port (ports.py). It knows nothing of the daemon, and no decision about sizes is taken here.
"""
