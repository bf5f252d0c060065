"""A trace: traffic, the world it meets, and what goes wrong in it; read from TOML with all errors at once, and written.

A trace holds no decision: the same one is run under every policy.
"""
