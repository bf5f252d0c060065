"""How bad a thing is, and what to do about it: judged from a status, or from systemd where there is none.

Values only: nothing here knows of a terminal.
"""
