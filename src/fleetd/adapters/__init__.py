"""The outside world: everything that speaks a protocol, reads a file of the system or calls a library with a server.

Each adapter stands behind a port (ports.py) and knows nothing of the daemon, and no rule of sizing is decided here.
"""
