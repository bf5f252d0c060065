"""Observers that look ten times a second which workers live on all hosts, and what Postgres has open.

They look from outside: they run no command in a host, take no part in its load, and go on while it is frozen, cut off
or off. `observer` starts and reads them, `timeline` says what they saw.
"""
