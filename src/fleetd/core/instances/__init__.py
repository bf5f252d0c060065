"""One host's instances: the state of each, what people and systemd did to it, and how it is started, drained, replaced.

How many there should be is never decided here: that is `demand` and `capacity`.
"""
