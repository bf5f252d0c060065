"""SidekiqRedis against a real redis-server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from fleetd.adapters import sidekiq_redis
from fleetd.adapters.sidekiq_redis import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.facts import SidekiqFacts
from tests.adapters.contracts import SECRET, SidekiqCheck, sidekiq_source_contract
from tests.adapters.redis_server import WAIT_SECONDS, RedisServer, admin, redis_server
from tests.adapters.sidekiq_keys import SidekiqKeys, compact
from tests.adapters.sidekiq_source import read, source_at
from tests.adapters.turnstile import Turnstile

ME = "worker1:4711:5f0c"


class RealStage:
    """A redis-server of its own behind the source."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.source = source_at(server, password=SECRET)

    @contextlib.contextmanager
    def _keys(self) -> Iterator[SidekiqKeys]:
        with admin(self._server, SECRET) as client:
            yield SidekiqKeys(client)

    def enqueue(self, queue: str, jobs: int, oldest_age_seconds: float) -> None:
        with self._keys() as keys:
            keys.enqueue(queue, jobs, age_seconds=oldest_age_seconds)

    def beat(self, identity: str) -> None:
        with self._keys() as keys:
            keys.beat(identity)

    def refuse_writes(self) -> None:
        with admin(self._server, SECRET) as client:
            client.config_set("maxmemory", "1")

    def break_connection(self) -> None:
        self._server.stop()

    def heal_connection(self) -> None:
        self._server.start()


@pytest.mark.parametrize("check", sidekiq_source_contract, ids=lambda check: str(check.__name__))
def test_contract(check: SidekiqCheck) -> None:
    with redis_server("--requirepass", SECRET) as server:
        asyncio.run(check(RealStage(server)))  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", [None, "social"])
@pytest.mark.parametrize("version", ["6.4.1", "6.5.12", "7.0.0", "7.3.9", "8.0.9", "8.1.6"])
def test_a_whole_reading(
    shared_redis: RedisServer, client: redis.Redis, version: str, namespace: str | None
) -> None:
    keys = SidekiqKeys(client, f"{namespace}:" if namespace else "")
    keys.enqueue("default", 3, age_seconds=42)
    keys.enqueue("mailers", age_seconds=7)
    keys.beat(ME, version=version)
    keys.work(ME, "default", "default", "push", key="workers" if version == "6.4.1" else "work")
    client.set(f"{keys.prefix}stat:processed", 123)
    client.set(f"{keys.prefix}stat:failed", 4)
    facts = read(source_at(shared_redis, namespace=namespace))
    assert facts.faults == ()
    assert facts.processes_complete
    assert {q.name: (q.length_jobs, q.busy_threads) for q in facts.queues.values()} == {
        "default": (3, 2),
        "pull": (0, 0),
        "mailers": (1, 0),
    }
    assert facts.queues["default"].oldest_age_seconds == pytest.approx(42, abs=5)
    (process,) = facts.processes
    assert (process.identity, process.threads, process.busy_threads) == (ME, 60, 17)
    assert process.oldest_run_age_seconds == pytest.approx(30, abs=5)
    assert process.beat_age_seconds == pytest.approx(4.5, abs=5)
    assert (facts.processed_jobs_total, facts.failed_jobs_total) == (123, 4)
    assert facts.redis_run_id == client.info("server")["run_id"]
    assert facts.writable is None


@pytest.mark.parametrize(
    ("check_writes", "commands"), [(False, ["EVALSHA", "INFO"]), (True, ["EVALSHA", "INFO", "SET"])]
)
def test_one_round_trip_in_the_steady_state(
    shared_redis: RedisServer, tmp_path: Path, check_writes: bool, commands: list[str]
) -> None:
    """Redis hears of a reading only once all of its commands were sent; each is sent once."""

    async def second_reading() -> tuple[SidekiqFacts, list[str]]:
        async with Turnstile(shared_redis.socket, tmp_path / "turnstile.sock").open() as turnstile:
            source = SidekiqRedis(
                RedisSettings(unix_socket=str(turnstile.path)),
                queues=("default",),
                read_timeout_seconds=WAIT_SECONDS,
            )
            await source.read(check_writes=check_writes)  # connects, sends the script
            turnstile.commands.clear()
            turnstile.group = len(commands)
            facts = await source.read(check_writes=check_writes)
            await source.close()
        return facts, turnstile.commands

    facts, sent = asyncio.run(second_reading())
    assert sent == commands
    assert facts.writable is (True if check_writes else None)


def test_the_probe_goes_by_itself(shared_redis: RedisServer, client: redis.Redis) -> None:
    read(source_at(shared_redis), check_writes=True)
    assert client.ttl("fleetd:probe") in range(1, 61)


def test_the_probe_stays_inside_the_namespace(shared_redis: RedisServer, client: redis.Redis) -> None:
    """A Redis shared by several Mastodons may let each user write below its own prefix only."""
    assert read(source_at(shared_redis, namespace="social"), check_writes=True).writable is True
    assert client.keys("*") == [b"social:fleetd:probe"]


def test_a_dead_process_is_skipped_and_not_a_fault(shared_redis: RedisServer, client: redis.Redis) -> None:
    SidekiqKeys(client).beat(ME)
    client.sadd("processes", "killed:1:a")  # its hash has expired
    facts = read(source_at(shared_redis))
    assert [process.identity for process in facts.processes] == [ME]
    assert (facts.processes_complete, facts.faults) == (True, ())


@pytest.mark.parametrize("payload_bytes", [0, 1_000, 3_000, 100_000, 5_000_000])
def test_the_age_of_a_job_of_any_size(
    shared_redis: RedisServer, client: redis.Redis, payload_bytes: int
) -> None:
    SidekiqKeys(client).enqueue("default", age_seconds=99, payload_bytes=payload_bytes)
    facts = read(source_at(shared_redis))
    assert facts.faults == ()
    assert facts.queues["default"].oldest_age_seconds == pytest.approx(99, abs=5)


def test_a_failed_job_has_much_after_its_times(shared_redis: RedisServer, client: redis.Redis) -> None:
    job = {"class": "A", "args": ["x" * 99_000, {"enqueued_at": "2025-01-01"}], "created_at": 1.0}
    job |= {"enqueued_at": SidekiqKeys(client).now() - 5, "error_message": 'ü"\\' * 3_333, "retry_count": 3}
    client.lpush("queue:default", compact(job))
    facts = read(source_at(shared_redis))
    assert facts.faults == ()
    assert facts.queues["default"].oldest_age_seconds == pytest.approx(5, abs=5)


@pytest.mark.parametrize("key", ["work", "workers"])
def test_a_running_job_with_a_large_payload_is_counted(
    shared_redis: RedisServer, client: redis.Redis, key: str
) -> None:
    keys = SidekiqKeys(client)
    keys.beat(ME)
    keys.work(ME, "default", "push", key=key, payload='{"queue":"no","run_at":1}' + "x" * 1_000_000)
    facts = read(source_at(shared_redis))
    assert facts.queues["default"].busy_threads == 1
    assert facts.faults == ()


@pytest.mark.parametrize("form", ["j|%Y%m%d|%-H:%-M", "j|%y%m%d|%-H:%M"])
def test_job_classes_of_the_last_whole_minute(
    shared_redis: RedisServer, client: redis.Redis, form: str
) -> None:
    def minute() -> datetime:
        return datetime.fromtimestamp(SidekiqKeys(client).now(), UTC).replace(second=0, microsecond=0)

    for _ in range(3):  # again if the minute ends meanwhile
        client.flushall()
        now = minute()
        for ahead in range(-3, 2):
            counts: dict[Any, Any] = {"PushWorker|p": 100 + ahead, "PushWorker|f": 1, "PushWorker|ms": 2000}
            client.hset((now + timedelta(minutes=ahead)).strftime(form), mapping=counts)
        facts = read(source_at(shared_redis))
        if minute() == now:
            break
    assert facts.job_classes["PushWorker"].processed_jobs == 99
    assert facts.job_classes["PushWorker"].busy_milliseconds == 2000


def test_the_scripts_calendar_is_the_calendar(client: redis.Redis) -> None:
    script = Path(sidekiq_redis.__file__).with_name("sidekiq_reading.lua").read_text()
    body = script[script.index("local function utc(") : script.index("local function read_classes(")]
    ask = client.register_script(
        body + "\nlocal r = {}\nfor i, s in ipairs(ARGV) do r[i] = {utc(tonumber(s))} end\nreturn r"
    )
    times = [
        *range(0, 4_200_000_000, 86_400 * 61 + 3_601),
        951_782_400,
        951_868_799,
        1_709_164_800,
        4_107_542_400,
    ]
    for time, parts in zip(times, ask(args=times), strict=True):
        wanted = datetime.fromtimestamp(time, UTC)
        assert parts == [wanted.year, wanted.month, wanted.day, wanted.hour, wanted.minute]
