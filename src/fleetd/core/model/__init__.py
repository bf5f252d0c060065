"""The values that everything else speaks in: what was read, what is configured, what was decided, what is told.

No rule of sizing, starting or stopping lives here, and nothing here imports a package of the core beside it.
"""
