"""Settings for all tests: none may fail because the machine is slow or busy."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis measures the time of each example and its data, and would fail a test on a busy machine.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# A shell's background job inherits both ignored, and so would every server that tests end by them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in the lab first: their files take minutes and mostly wait, so the others fill what is left."""
    items.sort(key=lambda item: item.get_closest_marker("lab") is None)
