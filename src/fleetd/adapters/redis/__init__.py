"""What every user of Redis needs: a connection, bounds on what it sends, round trips with scripts, failures in words.

What is asked of Redis, and in which format, is the user's (adapters/sidekiq), never here.
"""
