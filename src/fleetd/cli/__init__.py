"""fleetctl: parse what people type, ask fleetd, show its answer, leave with an exit status.

What is decided or measured is decided and measured in the daemon; here it is only read.
"""
