"""Wires the real adapters together: `fleetd`, root's `fleetd-render` and `fleetd-stamp`, and those of fleetctl's
commands that look at the host themselves: doctor, init, migrate, grants, install-units.

No decision is taken here that a test without real servers could not reach.
"""
