"""What can befall many hosts really befalls them, and jobs are counted right over all of it. No fleetd decides here."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab import Host
from lab.faults import redis
from lab.faults.clone import clone_worker
from lab.jobs import load
from lab.jobs.load import Load, Phase
from lab.setup import mastodon
from tests.support.lab.many_hosts import Many, booted

pytestmark = [pytest.mark.lab, pytest.mark.long]

THREADS = 4


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    """An instance and nothing else on each worker, without fleetd."""
    with booted() as many:
        for host in many.workers:
            environment = {"PGOPTIONS": f"-c application_name=mastodon-sidekiq@1.{host.name}"}
            mastodon.write_instance(host, "1", f"-c {THREADS} -q default -q push", THREADS + 2, environment)
            host.run(["systemctl", "start", "--no-block", "mastodon-sidekiq@1"])
        many.see("three instances live", lambda seen: len(seen.alive()) == 3)
        redis.wait_ready(many.hosts)
        yield many
        many.hosts.lab.boot()


def pong(host: Host, other: Host) -> bool:
    ping = ["timeout", "2", "redis-cli", "-h", other.name, "ping"]
    return host.run(ping, check=False).stdout.strip() == "PONG"


def test_jobs_on_all_hosts_are_counted_and_so_are_connections(many: Many) -> None:
    begun = time.monotonic()
    many.flow(10, {"default": 20.0, "push": 5.0}, query_share=0.5).wait()
    tally = many.settled()
    assert tally.done == tally.enqueued > 150
    assert (tally.lost, tally.repeated, tally.excused) == ((), (), ())
    assert {host for host, _ in tally.done_by_unit} == {"w1", "w2", "w3"}
    seen = many.observer.timeline().since(begun)
    names = {f"mastodon-sidekiq@1.{host.name}" for host in many.workers}
    assert names <= set(seen.most_open())
    assert max(seen.most_open()[name] for name in names) <= THREADS + 2
    assert 3 <= seen.most_open_at_once() <= 3 * (THREADS + 2)
    assert len(seen.counts) > 20


def test_a_parted_network_has_two_sides_that_work(many: Many) -> None:
    first, second = many.hosts.redis
    w1, w2, _ = many.workers
    many.hosts.lab.part([first, w1])
    try:
        assert pong(w1, first)
        assert not pong(w1, second)
        assert pong(w2, second)
        assert not pong(w2, first)
    finally:
        many.hosts.lab.reunite()
    assert pong(w1, second)


def test_a_failover_by_command_moves_everybody_and_loses_only_what_is_excused(many: Many) -> None:
    old = redis.primary(many.hosts)
    loader = many.flow(30, {"default": 10.0})
    done = redis.fail_over(many.hosts)
    assert (done.old, done.new, redis.role(old)) == (old, redis.primary(many.hosts), "slave")
    loader.wait()
    tally = many.settled([done.window])
    assert (tally.lost, tally.repeated) == ((), ())
    assert tally.done + len(tally.excused) == tally.enqueued
    redis.wait_ready(many.hosts)


def test_a_flush_loses_what_waits_and_nothing_that_comes_later(many: Many) -> None:
    window = redis.flush(many.hosts)
    many.flow(3, {"default": 10.0}).wait()
    tally = many.settled([window])
    assert (tally.lost, tally.repeated) == ((), ())


def test_a_failover_by_the_death_of_the_primary(many: Many) -> None:
    redis.wait_ready(many.hosts)
    done = redis.kill_primary(many.hosts)
    assert not done.old.running
    assert redis.primary(many.hosts) is done.new
    jobs = many.enqueue("default", [0.1] * 20)
    many.settled([done.window])
    done.old.boot()
    redis.wait_ready(many.hosts)
    assert redis.role(done.old) == "slave"
    tally = many.settled([done.window])
    assert not set(jobs) & {*tally.lost, *tally.repeated, *tally.excused}


def test_a_flow_without_a_replica_is_not_sure(many: Many) -> None:
    flow = Load([Phase(1, {"default": 5.0})], replicas=2)
    loader = load.start(redis.primary(many.hosts), flow)
    loader.wait()
    assert '"sure": false' in loader.record.read_text()
    assert '"sure": true' not in loader.record.read_text()


def test_a_cloned_worker_says_that_it_is_the_other(many: Many) -> None:
    original = many.workers[1]
    clone = clone_worker(original, "w2-clone")
    many.hosts.lab.boot()
    assert clone.run(["hostname"]).stdout.strip() == "w2"
    assert clone.read("/etc/machine-id") == original.read("/etc/machine-id")
    assert clone.read("/etc/fleetd/fleetd.toml") == original.read("/etc/fleetd/fleetd.toml")
    boot_id = "/proc/sys/kernel/random/boot_id"
    assert clone.read(boot_id) != original.read(boot_id)
    assert pong(clone, redis.primary(many.hosts))
    clone.power_off()
