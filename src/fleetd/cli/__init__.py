"""fleetctl: parses the command line, asks fleetd, shows the answer and ends with an exit status.

The daemon measures and decides; nothing here does.
"""
