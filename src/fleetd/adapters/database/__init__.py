"""Connections of Postgres, of a replica and of PgBouncer, each read over one kept connection.

What a limit means for the number of instances is decided in core/capacity, never here.
"""
