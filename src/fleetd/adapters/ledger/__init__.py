"""The ledger of a fleet of several hosts, kept in the Redis that Sidekiq uses.

The scripts do what core/fleet says, each at once or not at all. What the rules are is decided there, and what Sidekiq
keeps in Redis is read by adapters/sidekiq, never here.
"""
