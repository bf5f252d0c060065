"""Drawing on a terminal: signs, bars, wrapped lines, tables, and text from elsewhere made safe.

Nothing here knows what fleetd is.
"""
