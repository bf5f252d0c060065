"""A picture of a simulation, as SVG text.

It shows figures and computes none that are not in the scores.
"""
