"""`fleetctl doctor` as a whole, on a real Redis, with a ledger that two hosts have written through the real adapter."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fleetd.adapters.ledger.ledger import RedisLedger
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.app.doctor.check import Check
from fleetd.cli.main import cli
from fleetd.config.connections import RedisSettings
from fleetd.core.fleet.calls import Beat, BeatReply
from fleetd.core.sharing.report import written
from tests.support.fleet.ledgers import FLEET, SOURCE, report
from tests.support.rig.redis_server import WAIT_SECONDS, admin, command, redis_server

GUIDE = "LOCAL_DOMAIN=m.example\nDB_HOST=/nowhere/postgresql\nDB_USER=mastodon\nDB_PASS=\n"


def config(directory: Path, redis: str, fleet: str = "") -> Path:
    file = directory / "fleetd.toml"
    file.write_text(
        f'[fleet]\nhost = "w1"\n{fleet}[profiles.default-first]\ninstances = "1-3"\n[scheduler]\nplace = "here"\n'
        f'[redis]\n{redis}\n[state]\ndirectory = "{directory}"\n'
    )
    return file


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the test looks, and not at this machine's units."""
    monkeypatch.setattr("fleetd.app.doctor.redis_seen.READING_SECONDS_MAX", WAIT_SECONDS)
    monkeypatch.setattr("fleetd.app.doctor.examine.daemons_account", lambda: None)
    monkeypatch.setattr("fleetd.app.doctor.examine.given_env", lambda *_: EnvFile(text=GUIDE))
    for name, nothing in (("unfit_units", {}), ("others_running", ()), ("worker_units", ()), ("services", ())):
        monkeypatch.setattr(f"fleetd.app.doctor.examine.{name}", lambda *_, found=nothing: found)


async def beat(settings: RedisSettings, *hosts: Beat) -> None:
    connection = RedisConnection(settings, timeout_seconds=WAIT_SECONDS)
    ledger = RedisLedger(settings, connection, deadline_seconds=WAIT_SECONDS)
    sidekiq = SidekiqRedis(settings, queues=(), read_timeout_seconds=WAIT_SECONDS, rider=ledger)
    try:
        for host in hosts:
            ledger.say(host)
            await sidekiq.read()
            assert isinstance(ledger.heard(), BeatReply)
    finally:
        await sidekiq.close()
        await ledger.close()


def of(name: str, boot_id: str) -> Beat:
    return Beat(
        fleet=FLEET,
        host=name,
        boot_id=boot_id,
        nonce=name,
        tick_ms=5000,
        generation=1,
        claims={},
        scheduler={SOURCE: 12},
        schedulers=(),
        own_scheduler="gone",
        record=written(report(name, place="here")),
    )


def examined(file: Path) -> tuple[int, dict[str, list[Check]]]:
    """The exit status, and the checks by subject."""
    done = CliRunner().invoke(cli, ["doctor", "--json", str(file)])
    found: dict[str, list[Check]] = {}
    for check in msgspec.json.decode(done.stdout, type=dict[str, list[Check]])["checks"]:
        found.setdefault(check.subject, []).append(check)
    return done.exit_code, found


def test_two_hosts_one_of_which_has_our_name(tmp_path: Path) -> None:
    with redis_server() as server, admin(server) as client:
        settings = RedisSettings(unix_socket=server.socket)
        asyncio.run(beat(settings, of("w1", "another boot"), of("w2", "their boot")))
        before = client.hgetall("fleetd:ledger")
        status, found = examined(config(tmp_path, f'unix_socket = "{server.socket}"'))
        assert client.hgetall("fleetd:ledger") == before
    assert status == 1
    said = {subject: [(c.verdict, c.what) for c in checks] for subject, checks in found.items()}
    assert ("ok", "user default may read all that fleetd reads, and write the fleet's ledger") in said["Redis's user"]
    assert ("ok", f"{FLEET}: w1 and w2 share it; w1 leads") in said["the fleet"]
    taken = "another machine is w1 in this fleet: set fleet.host in fleetd.toml to a name of its own"
    assert ("broken", taken) in said["the fleet"]
    assert said["the scheduler"] == [
        ("look", 'w1 and w2 have place = "here"'),
        ("ok", "place: w1 here, w2 here"),
    ]
    assert "Sentinels" not in said


def test_a_user_without_rights_is_told_the_line(tmp_path: Path) -> None:
    with redis_server() as server, admin(server) as client:
        command(client, "ACL", "SETUSER", "fleetd", "reset", "on", ">p", "~*", "+@all", "-hset")
        table = f'unix_socket = "{server.socket}"\nusername = "fleetd"\npassword = "p"'
        done = CliRunner().invoke(cli, ["doctor", str(config(tmp_path, table))])
    lines = done.stdout.splitlines()
    [at] = [n for n, line in enumerate(lines) if "may not write the ledger" in line]
    assert lines[at].endswith("that the hosts of a fleet share: +hset")
    assert lines[at + 2] == f"    redis-cli -s {server.socket} ACL SETUSER fleetd +hset"
    assert "Traceback" not in done.output


def test_without_redis_that_is_said_once(tmp_path: Path) -> None:
    status, found = examined(config(tmp_path, f'unix_socket = "{tmp_path}/none.sock"'))
    assert status == 1
    assert [check.verdict for check in found["Redis"]] == ["broken"]
    assert not found.keys() & {"Redis's user", "Redis's replicas", "the fleet"}


def test_a_host_without_a_ledger_is_asked_nothing_of_one(tmp_path: Path) -> None:
    with redis_server() as server:
        settings = RedisSettings(unix_socket=server.socket)
        asyncio.run(beat(settings, of("w1", "another boot"), of("w2", "their boot")))
        file = config(tmp_path, f'unix_socket = "{server.socket}"', 'ledger = "local"\n')
        _, found = examined(file)
    [check] = found["the fleet"]
    assert (check.verdict, check.what.split(":")[0]) == ("ok", 'fleet.ledger = "local"')
    [user] = found["Redis's user"]
    assert user.what == "user default may read all that fleetd reads"
