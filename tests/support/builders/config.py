"""Texts of fleetd.toml for tests, and the problems that fleetd finds in one."""

from __future__ import annotations

import pytest

from fleetd.config import parse
from fleetd.errors import ConfigError

PROFILE = '[profiles.default-first]\ninstances = "1-4"\n'


def problems(text: str, host: str = "worker1") -> dict[str, str]:
    """The problems in a text: path to the whole sentence."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml", machine_host=host)
    return {p.path: str(p) for p in caught.value.problems}
