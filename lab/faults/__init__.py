"""What can befall several hosts at once, beyond what one `Host` offers: failovers of Redis, a flush, a cloned VM.

Nothing here decides whether what follows is right.
"""
