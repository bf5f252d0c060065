"""Errors for the person who runs the lab."""


class LabError(Exception):
    """Something in the lab did not work. The message says what, where, and what to do."""
