"""The screen of `fleetctl hosts`."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.cli.screens.hosts import hosts_screen, maintenance_screen
from fleetd.cli.screens.status import status_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.hosts import FleetHosts, HostOfFleet, OrderOfFleet, RestartOfFleet, RestartOnHost
from tests.support.builders.fleet_hosts import host, of_several, three
from tests.support.builders.status_healthy import healthy


def drawn(fleet: FleetHosts, width: int = 100) -> str:
    return "\n".join(line.plain for line in hosts_screen(fleet, Page(width, UNICODE)))


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, symbols: Symbols) -> None:
    for screen in (hosts_screen, maintenance_screen):
        assert all(line.cell_len <= width for line in screen(three(), Page(width, symbols)))


def test_a_host_is_lost_late_gone_or_unknown() -> None:
    late, lost, gone = host("w1", silent_seconds=30.0), host("w2", silent_seconds=90.0), host("w3", gone=True)
    said = drawn(three(hosts=(late, lost, gone, HostOfFleet(host="w4")), orders=()))
    assert "30 s ago" in said
    assert "lost" in said
    assert "gone" in said
    assert "fleetctl hosts forget w2" in said
    assert "3 hosts; w1 leads" in said


def test_a_silent_host_is_named_above_the_table_and_by_the_leader_s_status() -> None:
    hosts = (host("w1"), host("w2", silent_seconds=34.0), host("w3", silent_seconds=90.0))
    said = drawn(three(hosts=hosts, orders=()), width=140)
    assert "✖ Not heard of: w2 for 34 s, w3 for 90 s. Its fleetd is down" in said
    assert "Not heard of" not in drawn(three(hosts=(host("w1"),), orders=()))
    calm = of_several()
    assert calm.fleet is not None
    silent = structs.replace(calm.fleet.hosts[0], silent_seconds=34.0, tick_seconds=2.0)
    for changed, told in ((silent, True), (structs.replace(silent, tick_seconds=20.0), False)):
        seen = structs.replace(calm, fleet=structs.replace(calm.fleet, hosts=(changed, *calm.fleet.hosts[1:])))
        screen = "\n".join(line.plain for line in status_screen(seen, Page(100, UNICODE), height=None))
        assert ("Not heard of: w1 for 34 s" in screen.splitlines()[0]) is told


@pytest.mark.parametrize("left", [{"scheduler": True}, {"claims_connections": 27}, {"instances": 1}])
def test_a_host_with_the_scheduler_or_one_that_drains_is_not_empty(left: dict[str, int]) -> None:
    empty = host("w2", maintenance=True, instances=0, claims_connections=0)
    assert "in maintenance, empty" in drawn(three(hosts=(empty,), orders=()))
    said = drawn(three(hosts=(structs.replace(empty, **left),), orders=()))
    assert "in maintenance" in said
    assert "empty" not in said


def test_a_host_that_ticks_once_a_minute_is_not_lost_between_two_ticks() -> None:
    slow = host("w2", silent_seconds=149.0, tick_seconds=60.0)
    assert "lost" not in drawn(three(hosts=(slow,), orders=()))
    lost = host("w2", silent_seconds=150.0, tick_seconds=60.0)
    assert "lost" in drawn(three(hosts=(lost,), orders=()))


def test_why_others_are_unknown_comes_first() -> None:
    said = drawn(three(problem="Redis at 10.0.0.5:6379 refuses connections", hosts=(host("w2"),), orders=()))
    assert said.splitlines()[0].endswith("What other hosts do is unknown: Redis at 10.0.0.5:6379 refuses connections.")
    alone = drawn(three(alone=True, hosts=(host("w2"),), orders=()))
    assert 'w2 is alone: fleet.ledger = "local"' in alone


def test_gathering_says_whose_answer_is_waited_for() -> None:
    assert "the answer of w3 is waited for" in " ".join(drawn(three(gathering=("w3",))).split())


def test_hosts_that_tell_nothing_are_named() -> None:
    said = " ".join(drawn(three(untold=("w4",))).split())
    assert "w4 runs workers and tells the fleet nothing: an older fleetd" in said
    alone = of_several()
    assert alone.fleet is not None
    seen = structs.replace(alone, fleet=structs.replace(alone.fleet, hosts=alone.fleet.hosts[:1], untold=("w4", "w5")))
    status = " ".join(line.plain for line in status_screen(seen, Page(100, UNICODE), height=None))
    assert "w4, w5 run workers and tell the fleet nothing" in " ".join(status.split())


def test_names_cannot_control_the_terminal() -> None:
    assert "\x1b" not in drawn(three(hosts=(host("w1\x1b[2J", held="\x1b[2J", mastodon="\u202e"),)))


def test_only_hosts_in_maintenance_are_listed_among_them() -> None:
    said = "\n".join(line.plain for line in maintenance_screen(three(), Page(140, UNICODE)))
    assert "w2" in said
    assert "w1" not in said
    assert "fleetctl maintenance w2 --end ends it" in said
    nothing = maintenance_screen(three(orders=()), Page(100, UNICODE))
    assert [line.plain for line in nothing] == ["✔ No host is in maintenance."]


def test_status_names_the_fleet_only_if_there_are_several_hosts() -> None:
    page = Page(100, UNICODE)
    several = "\n".join(line.plain for line in status_screen(of_several(), page, height=None))
    assert "fleet: 3 hosts, w1 leads, scheduler on w1" in several
    assert "fleet:" not in "\n".join(line.plain for line in status_screen(healthy(), page, height=None))


def test_without_redis_status_says_that_who_leads_is_unknown() -> None:
    calm = of_several()
    assert calm.fleet is not None
    sources = tuple(structs.replace(source, ok=source.name != "redis") for source in calm.sources)
    fleet = structs.replace(calm.fleet, leader="", scheduler_host="")
    seen = structs.replace(calm, sources=sources, fleet=fleet)
    said = "\n".join(line.plain for line in status_screen(seen, Page(100, UNICODE), height=None))
    assert "fleet: 3 hosts, who leads and who has the scheduler is unknown" in said
    assert "no host" not in said


def test_a_count_says_what_ends_it_and_a_restart_how_far_each_host_is() -> None:
    orders = (
        OrderOfFleet(kind="set", host="", sentence="pull is set to 6 instances", seconds_left=600.0, profile="pull"),
        OrderOfFleet(kind="set", host="w2", sentence="pull is set to 2 instances", seconds_left=600.0, profile="pull"),
        OrderOfFleet(kind="restart", host="", sentence="a restart is under way, 1 of 5 done", seconds_left=9.0),
    )
    on = (
        RestartOnHost(host="w1", phase="under_way", done_instances=1, total_instances=3, at_key=3),
        RestartOnHost(host="w2", phase="deaf"),
        RestartOnHost(host="w3", phase="done"),
    )
    said = drawn(three(orders=orders, restarts=(RestartOfFleet(host="", profile="", hosts=on, ended=""),)), width=140)
    assert "The whole fleet: pull is set to 6 instances; 10 min left, fleetctl set pull auto ends it." in said
    assert "w2: pull is set to 2 instances; 10 min left, fleetctl set pull auto --host w2 ends it." in said
    flat = " ".join(said.split())
    assert "1 of 5 done; w1 1 of 3 (at @3), w2 has a fleetd that does not know it, w3 has nothing to restart." in flat
