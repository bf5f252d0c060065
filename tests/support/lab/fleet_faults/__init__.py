"""Faults that befall a fleet of three hosts at random moments, for tests/lab/long: what is done, and what must hold.

`stage` plays a fault on hosts that many faults share, `laws` judges what observers saw, `played` keeps what came of
each. The faults are in the other files, by what they concern. A fault returns its figures, by name.
"""
