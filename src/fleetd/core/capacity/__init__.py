"""What limits growth: connections, memory, and how much more the database can take; and which profile goes first.

No other package lowers a desired count for lack of a resource.
"""
