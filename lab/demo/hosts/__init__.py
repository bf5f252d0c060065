"""`make demo ARGS=--hosts`: three hosts as one fleet, one of which loses its power in the middle of a surge.

The rooms of the demo of one host are used where they fit (`play`, `watch`, `graph`, `summary`, `count`, `stage`). Here
is what several hosts need besides: whose fleetd says what, and what observers see ten times a second from outside.
"""
