"""Signs, lines and tables in so many cells, and text from elsewhere made safe.

Nothing here knows what fleetd is.
"""
