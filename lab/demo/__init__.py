"""The demo: a surge of jobs on two virtual hosts, a real fleetd, and a summary that does not take its word.

`python -m lab.demo` (as root; `make demo` sees to the rest). The story is told by values: `story` has the phases,
`samples` what was seen, `screen` and `plain` draw a scene, `summary` judges the figures; `stage`, `watch` and
`show` do the work.
"""
