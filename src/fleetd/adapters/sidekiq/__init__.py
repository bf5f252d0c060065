"""Sidekiq's bookkeeping in Redis: one read-only round trip a tick, and the formats of every version from 6.4 to 8.1.

Nothing here writes a key of Sidekiq's.
"""
