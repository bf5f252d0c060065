"""Settings for all tests: none may fail because the machine is slow or busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Hypothesis measures the time of each example and its data, and would fail a test on a busy machine.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
