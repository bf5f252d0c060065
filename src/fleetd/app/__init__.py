"""The one place that wires real adapters together: `fleetd`, and root's `fleetd-render` and `fleetd-stamp`.

Nothing is decided here that a test without real parts could not see.
"""
