"""One host's instances: the state of each, what people and systemd did to it, how it is started, drained and replaced.

How many there should be is never decided here, but in `demand` and `capacity`.
"""
