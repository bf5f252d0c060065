"""fleetd-may-schedule as the scheduler's unit runs it: in the workers' directory, with their environment."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fleetd.app.may_schedule import REFUSED, SECONDS_MAX, in_time, own_tag, workers_redis
from fleetd.core.model.identity import SCHEDULER
from tests.support.builders.readings import tag
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import RedisServer, admin, command, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact, fixture

ARGUMENTS = f"-q scheduler -c 5 -t 25 -g {tag(SCHEDULER, host='w1')}"
NOWHERE = Path("/none")
SCHEDULERS = "w2:12:abc"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with admin(server) as client:
        client.flushall()
        yield client


@pytest.fixture
def live(tmp_path: Path, server: RedisServer) -> Path:
    """Mastodon's directory."""
    (tmp_path / ".env.production").write_text(f"REDIS_URL=unix://{server.socket}\n")
    return tmp_path


def schedule(
    client: redis.Redis, *, host: str = "w2", seconds: int | None = 55, prefix: str = "", **changed: str
) -> None:
    """Write the heartbeat of a scheduler of fleetd's on `host`."""
    keys = SidekiqKeys(client, prefix)
    info = fixture("process-6.4.1.json")["info"] | {"hostname": host, "pid": 12, "queues": ["scheduler"]}
    keys.beat(SCHEDULERS, **{"info": compact(info | {"tag": tag(SCHEDULER, host=host)}), "quiet": "false", **changed})
    if seconds is not None:
        client.expire(f"{prefix}{SCHEDULERS}", seconds)


def run(live: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"SIDEKIQ_ARGS": ARGUMENTS, **environment}
    program = f"import sys; sys.path[:0] = {sys.path!r}; from fleetd.app.may_schedule import main; main([])"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=live, env=given, capture_output=True, text=True, check=False, timeout=60
    )


def rival(live: Path, **environment: str) -> str | None:
    answer = in_time({"SIDEKIQ_ARGS": ARGUMENTS, **environment}, live, NOWHERE)
    return None if answer.rival is None else answer.rival.host


def test_another_hosts_scheduler_refuses_with_one_plain_sentence(live: Path, client: redis.Redis) -> None:
    schedule(client)
    done = run(live)
    assert done.returncode == REFUSED
    assert done.stderr.startswith(
        "Not started: the scheduler runs on w2 (mastodon-sidekiq-scheduler, process 12), last heard of "
    )
    assert "systemctl start mastodon-sidekiq-scheduler" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_alone_it_starts_and_says_nothing(live: Path, client: redis.Redis) -> None:
    SidekiqKeys(client).beat("worker1:1:a", quiet="false")
    client.expire("worker1:1:a", 50)
    done = run(live)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("host", "seconds", "quiet"), [("w1", 55, "false"), ("w2", None, "false"), ("w2", 55, "true")])
def test_our_own_a_restored_and_a_quiet_heartbeat_refuse_nothing(
    live: Path, client: redis.Redis, host: str, seconds: int | None, quiet: str
) -> None:
    schedule(client, host=host, seconds=seconds, quiet=quiet)
    assert rival(live) is None


def test_a_process_that_took_leave_refuses_nothing(live: Path, client: redis.Redis) -> None:
    schedule(client)
    client.srem("processes", SCHEDULERS)
    assert rival(live) is None


def test_the_slot_of_another_host_refuses_before_its_heartbeat_is_there(live: Path, client: redis.Redis) -> None:
    told = str(int(SidekiqKeys(client).now() * 1000) - 2000)
    slot = {"format": "1", "clock_ms": "90000", "time_ms": told, "holder": "w3", "unit": "there"}
    fields: dict[Any, Any] = {**slot, "host:w3": '{"beat_ms":88000}'}
    client.hset("fleetd:ledger", mapping=fields)
    assert rival(live) == "w3"
    done = run(live)
    assert done.returncode == REFUSED
    assert "host w3 holds the scheduler's slot" in done.stderr
    client.hset("fleetd:ledger", "host:w3", '{"beat_ms":20000}')
    assert rival(live) is None


def test_the_environment_comes_before_the_file_and_the_namespace_is_read(live: Path, client: redis.Redis) -> None:
    schedule(client, prefix="mastodon:")
    code = live / "code.json"
    code.write_text('{"digest":"abc","version":"4.3.1"}')
    environment = {"SIDEKIQ_ARGS": ARGUMENTS, "REDIS_NAMESPACE": "mastodon"}
    assert in_time(environment, live, code).rival is not None
    assert in_time({**environment, "REDIS_URL": f"redis://127.0.0.1:{free_port()}"}, live, code).rival is None


def test_thousands_of_dead_members_are_passed_over(live: Path, client: redis.Redis) -> None:
    client.sadd("processes", *(f"gone:{n}:x" for n in range(5000)))
    schedule(client)
    assert rival(live) == "w2"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.hset(SCHEDULERS, "info", "not json"),
        lambda c: c.hset(SCHEDULERS, "info", "x" * 70_000),
        lambda c: c.hdel(SCHEDULERS, "beat"),
        lambda c: (c.delete(SCHEDULERS), c.set(SCHEDULERS, "a string", ex=50)),
        lambda c: (c.delete("processes"), c.set("processes", "a string")),
        lambda c: c.set("fleetd:ledger", "a string"),
    ],
)
def test_what_can_not_be_read_refuses_nothing(live: Path, client: redis.Redis, spoil: object) -> None:
    schedule(client, host="w1")
    spoil(client)  # type: ignore[operator]
    assert rival(live) is None


def test_a_scheduler_is_seen_beside_what_can_not_be_read(live: Path, client: redis.Redis) -> None:
    schedule(client)
    client.sadd("processes", "w9:1:a", b"\xff\xfe", "x" * 300)
    client.set("w9:1:a", "a string", ex=50)
    assert rival(live) == "w2"


def unknown(live: Path, **environment: str) -> str:
    answer = in_time({"SIDEKIQ_ARGS": ARGUMENTS, **environment}, live, NOWHERE)
    assert answer.rival is None
    return answer.unknown


def test_without_an_answer_it_starts_and_says_why(live: Path) -> None:
    port = free_port()
    assert unknown(live, REDIS_URL=f"redis://127.0.0.1:{port}") == f"Redis at 127.0.0.1:{port} does not answer"
    assert unknown(live, SIDEKIQ_ARGS="-q scheduler") == "SIDEKIQ_ARGS has no tag of fleetd's"
    assert unknown(live, REDIS_URL="nonsense://x").startswith("Which Redis the workers use can't be read")
    (live / ".env.production").write_bytes(b"\xff")
    assert unknown(live).startswith("Which Redis the workers use can't be read")
    done = run(live, REDIS_URL=f"redis://127.0.0.1:{port}")
    assert done.returncode == 0
    assert "started all the same" in done.stderr


def test_a_password_that_is_refused_is_no_answer_and_is_not_shown(tmp_path: Path) -> None:
    with redis_server("--requirepass", "right") as server, admin(server, "right") as client:
        schedule(client)
        assert unknown(tmp_path, REDIS_URL=f"unix://:wrong@{server.socket}").endswith("does not answer")
        assert rival(tmp_path, REDIS_URL=f"unix://:right@{server.socket}") == "w2"


def test_with_the_rights_that_sidekiq_needs_no_script_is_run(
    live: Path, server: RedisServer, client: redis.Redis
) -> None:
    schedule(client)
    command(
        client, "ACL", "SETUSER", "bare", "on", ">p", "~*", "-@all", "+time", "+sscan", "+pttl", "+hstrlen", "+hmget"
    )
    assert rival(live, REDIS_URL=f"unix://bare:p@{server.socket}") == "w2"


def test_the_primary_is_asked_for_at_the_sentinels(tmp_path: Path) -> None:
    port, sentinels_port = free_port(), free_port()
    config = f"sentinel monitor mymaster 127.0.0.1 {port} 1\n"
    sentinel = RedisServer(port=sentinels_port, sentinel_config=config)
    with redis_server(port=port) as server, admin(server) as client:
        schedule(client)
        try:
            sentinel.start()
            listed = f"127.0.0.1:{free_port()},127.0.0.1:{sentinels_port}"
            assert rival(tmp_path, REDIS_SENTINEL_MASTER="mymaster", REDIS_SENTINELS=listed) == "w2"
            assert rival(tmp_path, REDIS_SENTINEL_MASTER="another", REDIS_SENTINELS=listed) is None
        finally:
            sentinel.close()


@pytest.mark.parametrize(
    "words", [b"", b"+OK\r\n" * 3, b"*999999999\r\n", b"$-5\r\n$99999999999\r\nx", b"HTTP/1.1 400 Bad\r\n\r\n"]
)
def test_what_is_not_redis_or_never_ends_is_given_up_in_time(tmp_path: Path, words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(words)
                over.wait(60)

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        begun = time.monotonic()
        assert unknown(tmp_path, REDIS_URL=f"redis://127.0.0.1:{listener.getsockname()[1]}")
        assert time.monotonic() - begun < SECONDS_MAX + 5.0
        over.set()
        thread.join()


def test_the_own_host_is_that_of_the_tag() -> None:
    found = own_tag(ARGUMENTS)
    assert found is not None
    assert found.host == "w1"
    assert own_tag("-g mastodon -q scheduler") is None


def test_settings_are_those_that_rails_loads(tmp_path: Path) -> None:
    (tmp_path / ".env.production").write_text("REDIS_HOST=first\n")
    (tmp_path / ".env.production.local").write_text("REDIS_HOST=before\n")
    found = workers_redis({}, tmp_path, NOWHERE)
    assert found is not None
    assert found.host == "before"
    (tmp_path / ".env").mkdir()
    assert workers_redis({}, tmp_path, NOWHERE) is None
