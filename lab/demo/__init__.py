"""The demos: a surge of jobs on virtual hosts with a real fleetd, and a summary counted independently of it.

Run them with `python -m lab.demo` as root; `make demo` does the rest. It shows one host, or with `--hosts` three: what
these need besides is in `hosts`. These modules work on values only: `story` has the phases, `samples` what was seen,
`screen` and `plain` draw a scene, `summary` judges the figures. `stage`, `play`, `watch`, `count` and `tell` do the
work, and `show` is all of it.
"""
