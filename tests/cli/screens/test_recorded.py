"""Compares whole screens with recordings, so that a change of what people see shows up as a diff.

`RECORD=1 .venv/bin/python -m pytest tests/cli/screens/test_recorded.py` records them again. Read the diff before you
commit it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetd.cli.advice.postmortem import examine
from fleetd.cli.screens.connections import connection_screen
from fleetd.cli.screens.down import down_screen
from fleetd.cli.screens.explain import explain_screen
from fleetd.cli.screens.hosts import hosts_screen
from fleetd.cli.screens.status import status_screen
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE
from fleetd.core.model.hosts import HostOfFleet
from tests.support.builders import fleet_hosts, status_connections, status_examples, status_instances
from tests.support.builders.systemd_answers import Systemd

RECORDED = Path(__file__).parent / "recorded"
WIDE, CLASSIC, PHONE = Page(100, UNICODE), Page(80, UNICODE), Page(60, UNICODE)
NOBODY = "fleetd is not on the bus: nobody owns org.fleetd1"
REFUSES = "Redis at 10.0.0.5:6379 refuses connections"
SCREENS: dict[str, Callable[[], Lines]] = {
    "status-surge-80x24": lambda: status_screen(status_examples.surge(), CLASSIC, height=23),
    "status-surge-100x50": lambda: status_screen(status_examples.surge(), WIDE, height=49),
    "status-surge-ascii": lambda: status_screen(status_examples.surge(), Page(80, ASCII), height=23),
    "status-sick-60x40": lambda: status_screen(status_instances.sick(), PHONE, height=40),
    "status-paused-100x50": lambda: status_screen(status_instances.paused(), WIDE, height=49),
    "status-maintenance-80": lambda: status_screen(status_instances.maintenance(), CLASSIC, height=None),
    "status-left-over-80": lambda: status_screen(status_instances.left_over(), CLASSIC, height=None),
    "status-everything-down-80": lambda: status_screen(status_examples.everything_down(), CLASSIC, height=None),
    "status-of-several-hosts-80x24": lambda: status_screen(fleet_hosts.of_several(), CLASSIC, height=23),
    "hosts-80": lambda: hosts_screen(fleet_hosts.three(), CLASSIC),
    "hosts-60": lambda: hosts_screen(fleet_hosts.three(), PHONE),
    "hosts-unknown-80": lambda: hosts_screen(
        fleet_hosts.three(problem=REFUSES, hosts=(fleet_hosts.host("w2"), HostOfFleet(host="w1")), orders=()), CLASSIC
    ),
    "connections-direct-80": lambda: connection_screen(status_connections.direct(), CLASSIC),
    "connections-pgbouncer-60": lambda: connection_screen(status_connections.behind_pgbouncer(), PHONE),
    "explain-surge-80": lambda: explain_screen(status_examples.surge(), CLASSIC),
    "explain-pgbouncer-60": lambda: explain_screen(status_connections.behind_pgbouncer(), PHONE),
    "down-failed-80": lambda: down_screen(examine(NOBODY, Systemd(), monotonic_seconds=1000.0), CLASSIC),
}


@pytest.mark.parametrize("name", list(SCREENS))
def test_the_screen_is_as_recorded(name: str) -> None:
    file = RECORDED / f"{name}.txt"
    drawn = "".join(f"{line.plain.rstrip()}\n" for line in SCREENS[name]())
    if os.environ.get("RECORD"):
        file.write_text(drawn, encoding="utf-8")
    assert drawn == file.read_text(encoding="utf-8")


def test_no_recorded_screen_is_left_over() -> None:
    assert {file.stem for file in RECORDED.iterdir()} == set(SCREENS)
