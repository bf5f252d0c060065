"""The loop and the parts of a tick: observe, the core's decisions, act, tell.

The core decides, and the adapters reach the servers. This package imports no adapter.
"""
