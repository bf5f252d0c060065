"""`fleetctl hosts` and `fleetctl maintenance` as people type them."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner, Result

from fleetd.cli.client import Client
from fleetd.cli.main import cli
from fleetd.core.instances.orders import Order, Pause, Resume, SetInstances
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.sharing.orders.counts import SetHost
from fleetd.core.sharing.orders.restarts import RestartHost
from fleetd.core.sharing.orders.to_fleet import EndMaintenance, ForgetHost, Maintenance, PauseHost, ResumeHost
from fleetd.errors import FleetdError
from tests.support.builders.fleet_hosts import of_several, three
from tests.support.builders.systemd_answers import no_systemd
from tests.support.fleetctl import answering, gone


def telling(fleet: FleetHosts | str) -> Callable[[float], str]:
    text = fleet if isinstance(fleet, str) else msgspec.json.encode(fleet).decode()
    return lambda _seconds: text


def typed(*arguments: str, hosts: Callable[[float], str] = gone) -> tuple[Result, list[Order]]:
    given: list[Order] = []

    def order(one: Order) -> str:
        given.append(one)
        return "As you say."

    client = Client(fetch=answering(of_several()), order=order, hosts=hosts, run=no_systemd)
    return CliRunner().invoke(cli, list(arguments), obj=client, prog_name="fleetctl"), given


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ("hosts forget w3", ForgetHost(host="w3")),
        ("maintenance w2", Maintenance(host="w2")),
        ("maintenance w2 --for 2h --force", Maintenance(host="w2", for_seconds=7200.0, force=True)),
        ("maintenance w2 --reason kernel", Maintenance(host="w2", reason="kernel")),
        ("maintenance --end w2", EndMaintenance(host="w2")),
        ("pause --host w2 --for 1h", PauseHost(host="w2", for_seconds=3600.0)),
        ("pause --for 1h", Pause(for_seconds=3600.0)),
        ("resume --host w2", ResumeHost(host="w2")),
        ("resume", Resume()),
        ("set pull 3 --host w2 --for 1h", SetHost(host="w2", profile="pull", instances=3, for_seconds=3600.0)),
        ("set --host w2 pull auto", SetHost(host="w2", profile="pull", instances=None)),
        ("set pull 3", SetInstances(profile="pull", instances=3)),
        ("restart --no-wait --host w2", RestartHost(host="w2")),
        ("restart --no-wait --host w2 pull", RestartHost(host="w2", profile="pull")),
    ],
)
def test_fleetd_gets_what_was_typed(arguments: str, order: Order) -> None:
    result, given = typed(*arguments.split())
    assert (result.exit_code, result.stdout, given) == (0, "As you say.\n", [order])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("maintenance --end", "Which HOST?"),
        ("maintenance --force", "Which HOST?"),
        ("maintenance w2 --end --for 2h", "--end takes no other option"),
        ("maintenance w2 --for 2", "without a unit"),
        ("pause --host=", "Which --host?"),
        ("resume --host=", "Which --host?"),
        ("hosts forget", "Missing argument 'HOST'"),
        ("hosts remember w2", "No such command 'remember'"),
        ("status --fleet --json", "fleetctl hosts --json"),
    ],
)
def test_an_invalid_command_line_gives_no_order(arguments: str, words: str) -> None:
    result, given = typed(*arguments.split())
    assert result.exit_code == 2
    assert words in result.stderr
    assert given == []


def test_hosts_are_listed_as_a_screen_and_as_json() -> None:
    result, _ = typed("hosts", hosts=telling(three()))
    assert result.exit_code == 0
    assert "3 hosts; w1 leads, the scheduler is on w1." in result.stdout
    document = json.loads(typed("hosts", "--json", hosts=telling(three()))[0].stdout)
    assert [h["host"] for h in document["hosts"]] == ["w1", "w2", "w3"]
    assert document["hosts"][2]["silent_seconds"] == 840.0
    assert "in maintenance, empty" in typed("maintenance", hosts=telling(three()))[0].stdout
    below = typed("status", "--fleet", hosts=telling(three()))[0].stdout
    assert "fleet: 3 hosts" in below
    assert "3 hosts; w1 leads" in below


def test_what_can_not_be_told_has_its_exit_status_and_no_traceback() -> None:
    result, _ = typed("hosts")
    assert (result.exit_code, "fleetd" in result.stdout) == (3, True)
    assert "error" in json.loads(typed("hosts", "--json")[0].stdout) or result.exit_code == 3

    def refuses(_seconds: float) -> str:
        raise FleetdError("no tick is finished yet")

    assert json.loads(typed("hosts", "--json", hosts=refuses)[0].stdout) == {"error": "no tick is finished yet"}
    assert isinstance(typed("hosts", hosts=refuses)[0].exception, FleetdError)
    for nonsense in ("{", "[]", '{"host": "w1"}', "\ud800"):
        result, _ = typed("hosts", hosts=telling(nonsense))
        assert isinstance(result.exception, FleetdError)
        assert "systemctl restart fleetd" in str(result.exception)
    assert "The other hosts are unknown" in typed("status", "--fleet")[0].stdout


def test_help_has_examples_and_exit_statuses() -> None:
    for name in (["hosts"], ["hosts", "forget"], ["maintenance"]):
        text = typed(*name, "--help")[0].stdout
        assert "Examples:" in text
        assert "  1  " in text.split("Exit status:")[1]
        assert max(map(len, text.splitlines())) <= 110
