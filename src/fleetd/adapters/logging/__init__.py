"""Log lines to the journal or a terminal, with secrets taken out.

What is worth logging is decided in the daemon, never here.
"""
