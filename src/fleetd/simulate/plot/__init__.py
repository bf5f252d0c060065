"""A picture of a simulation, as SVG text.

No figure is computed here that the scores do not have.
"""
