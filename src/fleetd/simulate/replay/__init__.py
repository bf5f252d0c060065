"""Recorded traffic once more: a trace rebuilt from the history, run again, and how far off that is.

Reading the history file is no part of it: a Recording comes in.
"""
