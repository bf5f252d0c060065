"""What holds for all tests: none fails because the machine is slow or busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Hypothesis measures how long an example and its data take, and fails a test whose machine had something else to do.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
