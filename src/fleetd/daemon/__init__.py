"""The loop and what a tick is made of: observe, the core's decisions, act, tell.

What to decide is the core's; how a server is reached is the adapters', which this floor does not see.
"""
