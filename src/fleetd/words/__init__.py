"""Values in plain English: the one place where numbers, reasons and states become words.

What is decided never hangs on what is said here.
"""
