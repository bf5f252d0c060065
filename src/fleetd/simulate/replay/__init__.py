"""Recorded traffic again: a trace rebuilt from a recording, run once more, and how far off that is.

The history file is read elsewhere: a Recording comes in.
"""
