"""The ledger of a fleet of hosts in Redis: its keys and its layout.

What the ledger decides is in core/fleet; what Sidekiq keeps in Redis is in adapters/sidekiq, and neither is known here.
"""
