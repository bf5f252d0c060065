"""What the lab tells the person who runs it."""


class LabError(Exception):
    """Something in the lab did not work; the message says what, where, and what to do."""
