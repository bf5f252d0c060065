"""What fleetd says when Redis is not as Sidekiq needs it: what is wrong, and what to do. On real servers."""

from __future__ import annotations

import contextlib
import threading

import pytest
import redis

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server, wait_until
from tests.support.rig.sidekiq_keys import SidekiqKeys
from tests.support.rig.sidekiq_source import read, source_at


def unavailable(source: SidekiqRedis) -> str:
    with pytest.raises(SourceUnavailableError) as raised:
        read(source)
    return str(raised.value)


def test_no_more_clients() -> None:
    """Redis says so and hangs up at once, so the words or only the end of the connection arrive."""
    port = free_port()
    with redis_server("--maxclients", "1", port=port) as server, admin(server) as client:
        client.ping()
        for settings in (RedisSettings(host="127.0.0.1", port=port), RedisSettings(unix_socket=server.socket)):
            assert "maxclients" in unavailable(SidekiqRedis(settings, queues=("default",)))


def test_a_wrong_password_says_that_a_corrected_one_is_read_only_at_the_start() -> None:
    with redis_server("--requirepass", "right-horse") as server:
        settings = RedisSettings(unix_socket=server.socket, password="wrong-horse")
        sentence = unavailable(SidekiqRedis(settings, queues=("default",)))
    assert "REDIS_PASSWORD" in sentence
    assert "then `systemctl restart fleetd`, which reads them again" in sentence
    assert "horse" not in sentence


@pytest.mark.parametrize("with_slots", [False, True])
def test_a_redis_cluster(with_slots: bool) -> None:
    with redis_server("--cluster-enabled", "yes") as server:
        if with_slots:
            with admin(server) as client:
                command(client, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        sentence = unavailable(source_at(server))
    assert "is a Redis Cluster, which Sidekiq can't use" in sentence


def test_a_replica_without_its_primary() -> None:
    with redis_server() as server, admin(server) as client:
        client.config_set("replica-serve-stale-data", "no")
        command(client, "REPLICAOF", "127.0.0.1", str(free_port()))
        assert "is a replica that has lost its primary; start the primary again" in unavailable(source_at(server))


def test_a_redis_that_loads_its_data() -> None:
    slowly = "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"
    with redis_server("--enable-debug-command", "yes", *slowly) as server, admin(server) as client:
        client.mset({f"key{n}": "x" * 2000 for n in range(500)})
        with admin(server) as other:
            loading = threading.Thread(target=reload, args=(client,))
            loading.start()
            wait_until(lambda: loads(other), "it to load")
            assert "is still loading its data" in unavailable(source_at(server))
            server.stop()
            loading.join(WAIT_SECONDS)


def reload(client: redis.Redis) -> None:
    with contextlib.suppress(redis.RedisError):  # the server is stopped meanwhile
        command(client, "DEBUG", "RELOAD")


def loads(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    return False


@pytest.mark.parametrize("renamed", ["EVALSHA", "INFO", "SCARD", "LLEN"])
def test_a_renamed_command(renamed: str) -> None:
    """Without EVALSHA nothing can be read; without another one, what it reads is unknown and named."""
    with redis_server("--rename-command", renamed, f"hidden-{renamed}") as server:
        if renamed == "EVALSHA":
            assert "does not know a command that fleetd needs" in unavailable(source_at(server))
            return
        facts = read(source_at(server))
    words = " ".join(f"{fault.key} {fault.why}" for fault in facts.faults)
    if renamed == "INFO":
        assert "INFO does not give Redis's run_id" in words
    else:
        assert "needs a command that this Redis does not know" in words
    assert facts.processes_complete == (renamed != "SCARD")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--min-replicas-to-write", "1"), "min-replicas-to-write"),
        (("--maxmemory", "1"), "maxmemory"),
    ],
)
def test_a_redis_that_refuses_writes(options: tuple[str, ...], words: str) -> None:
    with redis_server(*options) as server:
        facts = read(source_at(server))
    (why,) = (fault.why for fault in facts.faults if fault.key == "fleetd:probe")
    assert words in why
    assert facts.writable is False


def test_a_database_without_sidekiqs_keys(shared_redis: RedisServer) -> None:
    """Sidekiq's keys are in another database or namespace, or nothing has ever run."""
    with admin(shared_redis) as client:
        client.flushall()
        SidekiqKeys(client).beat()
    assert read(source_at(shared_redis)).faults == ()
    (fault,) = read(source_at(shared_redis, db=3)).faults
    assert fault.why.startswith("database 3 has neither queues nor processes of Sidekiq's")
    (fault,) = read(source_at(shared_redis, namespace="social")).faults
    assert fault.key == "social:processes"
    assert fault.why.startswith("database 0, namespace 'social', has neither queues nor processes")
