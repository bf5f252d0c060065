"""`fleetctl connections`: the text and numbers for an admin, and the document for a script."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from msgspec.structs import replace

from fleetd.cli.advice.findings import findings
from fleetd.cli.screens.connections import connection_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.status import ConsumerStatus, Status
from tests.support.builders import status_connections, status_examples
from tests.support.builders.systemd_answers import Systemd, no_systemd
from tests.support.fleetctl import answering, fleetctl


def drawn(status: Status, width: int = 100, symbols: Symbols = UNICODE) -> str:
    return "\n".join(line.plain for line in connection_screen(status, Page(width, symbols)))


def words(status: Status) -> str:
    return " ".join(drawn(status).split())


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 33, 40, 60, 79, 100, 400])
@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_no_line_is_wider_than_the_terminal(name: str, width: int, symbols: Symbols) -> None:
    lines = connection_screen(status_examples.ALL[name](), Page(width, symbols))
    assert max(line.cell_len for line in lines) <= width
    if symbols is ASCII:
        assert "".join(line.plain for line in lines).isascii()


def test_the_calculation_is_written_out_with_the_origin_of_others() -> None:
    text = drawn(status_connections.direct())
    assert text.splitlines()[0] == "✔ 155 connections are left of Postgres's 697 (700 − 3 reserved for superusers)."
    assert re.search(r"✔ Postgres +█+▓+░+▒ of 697$", text, re.MULTILINE)
    calculation = "697 limit (700 − 3 reserved for superusers) − 10 reserve − 160 others − 372 claims = 155 headroom"
    assert calculation in words(status_connections.direct())
    others = "160: the greatest of 138 seen now, 151 fading peak, 160 declared (foreign Sidekiq included)"
    assert others in words(status_connections.direct())
    assert "▚" not in text, "nothing is in doubt here"


def test_others_are_listed_as_seen_and_as_declared() -> None:
    text = drawn(status_connections.direct())
    assert re.search(r"OTHERS +SEEN +DECLARED", text)
    assert re.search(r"mastodon from 10\.0\.0\.4 \(puma\) +104 +−", text)
    assert re.search(r"streaming +− +40", text)


def test_claims_are_listed_by_host_and_profile_with_their_sum() -> None:
    text = drawn(status_connections.direct())
    assert re.search(r"worker1 +default-first +4 +248 +62$", text, re.MULTILINE)
    assert re.search(r"worker1 +scheduler +1 +12 +12$", text, re.MULTILINE)
    assert re.search(r"worker2 +its own +2 +58 +29$", text, re.MULTILINE)
    assert re.search(r"all +9 +372$", text, re.MULTILINE)


def test_the_headroom_is_shown_as_further_instances() -> None:
    room = "Room for 2 more default-first (62 each) or no more pull-first (27 each, at its max)."
    assert room in words(status_connections.direct())
    assert "One more instance claims: default-first 62, pull-first 27." in words(status_connections.overrun())
    status = status_connections.direct()
    full = replace(status.connections, more_instances={"default-first": 0, "pull-first": 0})
    assert "every profile runs as many instances as it may" in words(replace(status, connections=full))


def test_the_source_that_binds_comes_first_and_is_marked() -> None:
    status = status_connections.behind_pgbouncer()
    turned = replace(status.connections, sources=status.connections.sources[::-1])
    for shown in (status, replace(status, connections=turned)):
        heads = re.findall(r"^\S (Postgres|PgBouncer|Replica) .* of (.*)$", drawn(shown), re.MULTILINE)
        assert heads[0] == ("PgBouncer", "600, binds")
        assert sorted(heads[1:]) == [("Postgres", "197"), ("Replica", "497")]


def test_connections_that_may_be_others_are_kept_from_growth_and_reported() -> None:
    text = words(status_connections.behind_pgbouncer())
    assert text.startswith("▲ Others can't be told from our workers on PgBouncer")
    assert (
        "under [[connections.claims]] in fleetd.toml (docs/operations.md has the lines). ▲ 0 connections are left"
        in text
    )
    assert (
        "600 limit − 10 reserve − 71 others − 372 claims = 147; but up to 290 may be others', which growth leaves "
        "alone: 0 headroom" in text
    )
    assert "▚ perhaps others'" in text
    assert "too few for one more instance" in text


def test_a_doubt_that_costs_nothing_is_a_note() -> None:
    roomy = replace(status_connections.PGBOUNCER, limit_connections=1000, headroom_connections=328)
    status = status_connections.connected(
        status_connections.direct(), roomy, unattributable="others can't be told from ours"
    )
    assert words(status).startswith(
        "✔ 328 connections are left of PgBouncer's 1,000. Others can't be told from ours. worker1"
    )
    assert findings(status) == ()


def test_pgbouncers_pool_shows_waiting_clients() -> None:
    idle = words(status_connections.behind_pgbouncer())
    assert "pool 80 connections to Postgres, 31 at work, no client waits" in idle
    assert "CLIENTS, OURS AMONG THEM" in idle
    assert "197 limit − 10 reserve − 12 others − 85 PgBouncer's pools = 90 headroom" in idle
    busy = words(status_connections.saturation())
    assert busy.startswith("▲ More workers would not help: 14 clients wait")
    assert "80 at work, 14 clients wait, the longest for 2.3 s" in busy
    assert "▲ PgBouncer" in busy


def test_an_upper_bound_says_what_would_make_it_exact() -> None:
    text = words(status_connections.behind_pgbouncer())
    assert "497 limit − 10 reserve − 40 others at most − 372 claims" in text
    assert text.count("at most: GRANT pg_monitor TO fleetd's role") == 1


def test_refused_clients_are_highlighted() -> None:
    text = words(status_connections.refused())
    assert text.startswith("✖ Postgres refuses new clients, too many already")
    assert "= 155, but it refuses new clients: 0 headroom" in text
    assert "✖ Postgres" in text


def test_claims_over_the_limit_show_by_how_many_and_what_a_rise_adds() -> None:
    text = words(status_connections.overrun())
    limit = "697 limit (700 − 3 reserved for superusers)"
    assert f"{limit} − 10 reserve − 352 others − 372 claims = −37: 37 too many" in text
    assert "drained" not in text, "whether any is, is said above"
    assert "352: 330 seen now, 22 more soon as they rise (330 fading peak, 160 declared" in text


def test_an_unreadable_source_is_shown_with_its_reason_and_consequence() -> None:
    text = words(status_connections.replica_lost())
    assert text.startswith(
        "? The replica's connections are unknown, so nothing grows above min: 10.0.0.7:5432 refused the connection."
    )
    assert "? Replica unknown, last read 94 s ago, 19 errors; nothing grows above min" in text
    assert "binds" not in text
    assert "connections are left" not in text
    assert "Room for" not in text


def test_before_the_first_reading_no_number_is_shown() -> None:
    base = status_examples.everything_down()
    young = replace(base, sources=tuple(replace(s, ok=True) for s in base.sources))
    assert words(young).startswith("? How many connections are left is unknown: nothing grows above min.")


def test_the_only_source_is_not_called_the_one_that_binds() -> None:
    text = words(status_examples.surge())
    assert "700 limit (703 − 3 reserved for superusers) − 13 reserve − 224 others − 426 claims = 37 headroom" in text
    assert "binds" not in text


def test_old_numbers_are_called_old() -> None:
    assert drawn(replace(status_connections.direct(), tick_age_seconds=95.0)).startswith("✖ fleetd is stuck")


def test_names_can_control_neither_rich_nor_the_terminal() -> None:
    evil = "[red]x[/red]\x1b[2J\u202e"
    seen = ConsumerStatus(name=evil, observed_connections=3, declared_connections=None)
    status = status_connections.connected(
        status_connections.direct(), replace(status_connections.POSTGRES, consumers=(seen,))
    )
    claims = (replace(status_connections.CLAIMS[0], host=evil, profile=evil),)
    text = drawn(replace(status, connections=replace(status.connections, claims=claims)))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[red]x[/red]\\x1b[2J\\u202e" in text


def test_the_command_prints_the_screen() -> None:
    result = fleetctl("connections", fetch=answering(status_connections.direct()))
    assert result.exit_code == 0
    assert "155 connections are left of Postgres's 697 (700 − 3 reserved for superusers)." in result.stdout
    assert "\x1b" not in result.stdout


def test_json_has_the_connections_and_the_state_of_their_sources() -> None:
    status = status_connections.replica_lost()
    said = json.loads(msgspec.json.encode(status))
    said["connections"]["invented_later"] = 1
    result = fleetctl("connections", "--json", fetch=answering(json.dumps(said)))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"host", "tick_age_seconds", "connections", "sources"}
    assert document["connections"] == said["connections"]
    assert [(s["name"], s["ok"]) for s in document["sources"]] == [
        ("postgres", True),
        ("pgbouncer", True),
        ("replica", False),
    ]


@pytest.mark.parametrize("name", ["connections", "explain"])
def test_a_daemon_that_is_down_gets_a_postmortem_and_its_exit_status(name: str) -> None:
    shown = fleetctl(name, run=Systemd())
    assert (shown.exit_code, fleetctl(name, "--json", run=Systemd()).exit_code) == (3, 3)
    assert "fleetd has failed" in shown.stdout
    assert json.loads(fleetctl(name, "--json", run=no_systemd).stdout)["error"]
    broken = fleetctl(name, "--json", fetch=answering("nonsense"))
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["error"]


def test_watch_redraws_and_is_not_for_json() -> None:
    result = fleetctl("connections", "--watch", fetch=answering(status_connections.direct()), frames=3)
    assert result.exit_code == 0
    assert result.stdout.count("155 connections are left") == 3
    assert fleetctl("connections", "--watch", "--json").exit_code == 2
