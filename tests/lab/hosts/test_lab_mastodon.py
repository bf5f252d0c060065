"""The stand-in Mastodon: real Sidekiq under the real units, and a count of jobs that reveals a loss."""

import signal
import time
from collections import Counter

import pytest

from lab.jobs import load, records
from lab.jobs.load import Load, Phase
from lab.jobs.resp import strings
from lab.setup import mastodon, services
from lab.topologies import TwoHosts

pytestmark = pytest.mark.lab

LONG_SECONDS = 600.0
ALL_BUT_SCHEDULER = "-q default -q ingress -q push -q mailers -q pull -q fasp"


def start_worker(hosts: TwoHosts, number: int, queues: str = ALL_BUT_SCHEDULER, threads: int = 10, **more: str) -> str:
    """Start a worker. `more`: further variables of its environment."""
    unit = f"mastodon-sidekiq@{number}"
    named = {"PGOPTIONS": f"-c application_name={unit}", **more}
    mastodon.write_instance(hosts.worker, str(number), f"{queues} -c {threads} -g lab", threads + 2, named)
    hosts.worker.start(unit)
    return unit


def connections(hosts: TwoHosts, unit: str) -> int:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{unit}'"
    return int(hosts.main.run(["psql", "-Atc", query, "postgres"], user="postgres").stdout)


def processes(hosts: TwoHosts) -> list[str]:
    """The identities (host, pid and more) of all processes with a heartbeat in Redis."""
    return hosts.main.run(["redis-cli", "smembers", "processes"]).stdout.split()


@pytest.mark.parametrize("timestamps", ["seconds", "milliseconds"])
def test_jobs_are_run_and_recorded(two_hosts: TwoHosts, timestamps: str) -> None:
    unit = start_worker(two_hosts, 1)
    # The first heartbeat comes some time after READY.
    two_hosts.main.wait_until("it is in Redis", lambda: len(processes(two_hosts)) == 1)
    assert processes(two_hosts)[0].split(":")[1] == str(two_hosts.worker.unit(unit).main_pid)
    rates = {"default": 30.0, "push": 10.0, "ingress": 10.0, "mailers": 5.0, "pull": 2.0, "fasp": 5.0}
    work = Load([Phase(3, rates)], timestamps="seconds" if timestamps == "seconds" else "milliseconds", job_scale=0.2)
    began = time.time()
    count = load.start(two_hosts.main, work).wait()
    assert count == len(list(load.jobs_of(work))) > 100
    two_hosts.worker.wait_until("all jobs are done", lambda: records.tally(two_hosts.main).settled)
    after = records.tally(two_hosts.main)
    assert (after.done, after.lost, after.repeated) == (count, (), ())
    assert set(after.waits) >= set(rates)
    assert after.waits["default"].longest < time.time() - began, "in seconds, whatever the jobs' own times are in"
    assert 1 <= connections(two_hosts, unit) <= 12


@pytest.mark.parametrize("by_url", [False, True], ids=["DB_HOST", "DATABASE_URL"])
def test_the_pool_opens_lazily_and_up_to_its_size(two_hosts: TwoHosts, by_url: bool) -> None:
    """Also if the address comes from DATABASE_URL, which in Rails overrides the other settings."""
    usual = mastodon.environment("main", boot_seconds=0.5)
    url = f"postgres://mastodon:{services.DB_PASSWORD}@main/{services.DATABASE}"
    without = {name: value for name, value in usual.items() if not name.startswith("DB_")}
    mastodon.write_settings(two_hosts.worker, {**without, "DATABASE_URL": url} if by_url else usual)
    try:
        # Mastodon sets an empty application_name, so that PGAPPNAME does not count and PGOPTIONS does.
        unit = start_worker(two_hosts, 2, PGAPPNAME="ignored")
        assert connections(two_hosts, unit) == 0
        # Long enough that all eight run at the same time.
        load.enqueue(two_hosts.main, "push", [LONG_SECONDS] * 8)
        two_hosts.worker.wait_until("eight connections", lambda: connections(two_hosts, unit) == 8)
        mastodon.let_go(two_hosts.worker)
    finally:
        mastodon.write_settings(two_hosts.worker, usual)


def test_a_kill_loses_jobs_and_a_stop_does_not(two_hosts: TwoHosts) -> None:
    # At least 3 s: after a stop an idle thread waits in BRPOP for up to 2 s. With -t 1 it took the jobs that had just
    # been pushed back, and died with them (seen with Sidekiq 6.4.1).
    unit = start_worker(two_hosts, 3, queues="-q default -t 4")
    stopped = load.enqueue(two_hosts.main, "default", [LONG_SECONDS] * 3)
    two_hosts.worker.wait_until("they run", lambda: records.tally(two_hosts.main).running == 3)
    two_hosts.worker.stop(unit)
    tally = records.tally(two_hosts.main)
    assert (tally.waiting, tally.lost) == (3, ())
    mastodon.let_go(two_hosts.worker)
    two_hosts.worker.start(unit)
    two_hosts.worker.wait_until("they are done", lambda: records.tally(two_hosts.main).settled)
    mastodon.hold(two_hosts.worker)
    pushed_back = [run for run in records.runs([two_hosts.worker]) if run.result == "pushed_back"]
    assert {run.jid for run in pushed_back} == set(stopped)

    killed = load.enqueue(two_hosts.main, "default", [LONG_SECONDS] * 4)
    two_hosts.worker.wait_until("they run", lambda: records.tally(two_hosts.main).running == 4)
    two_hosts.worker.kill(unit, signal.SIGKILL)
    two_hosts.worker.wait_until("they are lost", lambda: records.tally(two_hosts.main).running == 0)
    assert records.tally(two_hosts.main).lost == tuple(sorted(killed))


def quiet(hosts: TwoHosts) -> bool:
    with load.connect(hosts.main) as redis:
        members = strings(redis.command("SMEMBERS", "processes"))
        return any(redis.command("HGET", name, "quiet") == "true" for name in members if name.startswith("worker1:"))


def test_two_schedulers_double_every_cron_job(two_hosts: TwoHosts) -> None:
    hosts = two_hosts
    usual = hosts.worker.read(f"{mastodon.LIVE}/.env.production")
    try:
        both_enqueue_until_one_is_quiet(hosts)
    finally:
        hosts.main.stop(mastodon.STOCK_UNIT)
        hosts.worker.write(f"{mastodon.LIVE}/.env.production", usual, mode=0o640, owner="mastodon")


def both_enqueue_until_one_is_quiet(hosts: TwoHosts) -> None:
    settings = mastodon.environment("main", boot_seconds=0, cron_seconds=0.5)
    mastodon.install(hosts.main, settings)
    mastodon.install_stock_unit(hosts.main, enable=False)
    hosts.main.reload_systemd()
    hosts.main.start(mastodon.STOCK_UNIT)
    mastodon.write_settings(hosts.worker, settings)
    start_worker(hosts, 1, queues="-q scheduler")

    def pushes() -> Counter[tuple[str, str]]:
        found = records.cron_pushes([hosts.main, hosts.worker])
        return Counter((host, name) for _, name, host, _ in found)

    jobs = ("Scheduler::ScheduledStatusesScheduler", "Scheduler::IndexingScheduler")
    both = [(host, name) for host in ("main", "worker1") for name in jobs]
    hosts.worker.wait_until("both hosts enqueue cron jobs", lambda: all(pushes()[key] >= 2 for key in both))
    hosts.worker.kill("mastodon-sidekiq@1", signal.SIGTSTP)
    hosts.worker.wait_until("it says that it is quiet", lambda: quiet(hosts))
    quieted = pushes()
    hosts.main.wait_until("the other goes on", lambda: pushes()["main", jobs[0]] >= quieted["main", jobs[0]] + 3)
    assert all(pushes()["worker1", name] == quieted["worker1", name] for name in jobs)


def test_jobs_survive_a_database_outage(two_hosts: TwoHosts) -> None:
    start_worker(two_hosts, 4)
    two_hosts.main.stop("postgresql")
    jobs = load.enqueue(two_hosts.main, "default", [0.01] * 5)
    two_hosts.worker.wait_until(
        "all failed and wait for a retry",
        lambda: two_hosts.main.run(["redis-cli", "zcard", "retry"]).stdout.strip() == "5",
    )
    two_hosts.main.start("postgresql")
    tally = records.tally(two_hosts.main)
    # Retries come after 15 s at the earliest, which may have passed on a busy machine.
    assert tally.waiting + tally.running + tally.done == tally.enqueued == len(jobs)
    assert tally.lost == ()
    assert two_hosts.main.unit(services.postgres_unit()).active
