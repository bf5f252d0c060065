"""Values in, values out: no clock, no I/O, no randomness (law 9)."""
