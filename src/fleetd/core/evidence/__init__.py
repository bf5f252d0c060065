"""What a reading proves: which heartbeats are of live processes, what their clocks show, what is unknown.

Everything after it decides by what is proved here; none looks at a raw heartbeat again. The rules: docs/evidence.md.
"""
