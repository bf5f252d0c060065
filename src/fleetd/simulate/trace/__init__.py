"""A trace: traffic, the world it meets, and what goes wrong in it; read from TOML with all errors at once, and written.

What a policy makes of it is no part of a trace.
"""
