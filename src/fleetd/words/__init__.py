"""Values in plain English: the one place where numbers, reasons and states become words.

No decision depends on what is said here.
"""
