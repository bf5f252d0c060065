"""Wires the real adapters together: the programs `fleetd`, and root's `fleetd-render` and `fleetd-stamp`.

No decision is taken here that a test without real servers could not reach.
"""
