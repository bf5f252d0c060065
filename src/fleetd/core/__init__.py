"""All decisions, as pure functions of plain values: no clock, no I/O, no randomness (law 9)."""
