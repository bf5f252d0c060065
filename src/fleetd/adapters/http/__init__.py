"""The read-only HTTP listener for metrics and health; it can't slow a tick.

What a metric is called and means is in daemon/metrics.py, never here.
"""
