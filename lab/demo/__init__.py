"""The demo: a surge of jobs on two virtual hosts with a real fleetd, and a summary counted independently of it.

Run it with `python -m lab.demo` as root; `make demo` does the rest. These modules work on values only: `story` has the
phases, `samples` what was seen, `screen` and `plain` draw a scene, `summary` judges the figures. `stage`, `watch`,
`count` and `tell` do the work.
"""
