"""Law 4 at a shutdown: workers push their unfinished jobs back before network, VPN and Redis go."""

from __future__ import annotations

import pytest

from lab import Host, Lab, topologies
from lab.jobs import load, records
from lab.setup import install, mastodon, services

pytestmark = pytest.mark.lab

CONFIG = '[profiles.default-first]\ninstances = "1-2"\nmin = 1\nthreads = 6\n[scheduler]\nplace = "elsewhere"\n'
#: Like Debian's wg-quick@.service: ordered only by what comes before network-online.target.
VPN = """[Unit]
After=network-online.target nss-lookup.target
Wants=network-online.target nss-lookup.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/ip link set eth0 down
[Install]
WantedBy=multi-user.target
"""
SHORT, LONG = [1.0, 2.0, 3.0], [90.0, 90.0]


def at_work(worker: Host, main: Host) -> list[str]:
    """Let instance 1 work on some short jobs, and on some longer than a stop waits. Returns the jids of the latter."""
    load.enqueue(main, "default", SHORT)
    jids = load.enqueue(main, "default", LONG)
    worker.wait_until("all run", lambda: len(records.runs([worker])) == len(SHORT + LONG))
    return jids


def nothing_is_lost(main: Host, long: list[str], worker: Host) -> None:
    """All short jobs are done, and all long ones are back in their queue."""
    tally = records.tally(main)
    assert (tally.lost, tally.repeated) == ((), ())
    assert (tally.done, tally.waiting) == (len(SHORT), len(LONG))
    pushed_back = {run.jid for run in records.runs([worker]) if run.result == "pushed_back"}
    assert pushed_back == set(long)


def test_jobs_are_pushed_back_before_the_vpn_to_redis_goes() -> None:
    """With the real 25 s of Sidekiq's -t. After the next boot the jobs run again."""
    with Lab() as lab:
        hosts = topologies.two_hosts(lab, boot_seconds=0.5)
        main, worker = hosts.main, hosts.worker
        worker.write("/etc/fleetd/fleetd.toml", CONFIG)
        worker.write("/etc/systemd/system/wg-quick@.service", VPN)
        worker.enable("wg-quick@wg0")
        worker.enable("mastodon-sidekiq.target")
        lab.boot()
        assert worker.unit("mastodon-sidekiq@1").active
        long = at_work(worker, main)
        worker.shut_down()
        nothing_is_lost(main, long, worker)
        worker.boot()
        worker.wait_until("they run again", lambda: records.tally(main).running == len(LONG))


def test_jobs_are_pushed_back_before_redis_on_the_same_host_goes() -> None:
    with Lab() as lab:
        main = lab.add_host("main", run=("redis-server", "postgresql"))
        services.redis(main)
        services.postgres(main)
        mastodon.install(main, mastodon.environment("main", boot_seconds=0.5))
        install.place_units(main)
        mastodon.run_with_stand_in(main, "mastodon-sidekiq@.service")
        mastodon.write_instance(main, "1", "-q default -c 6 -t 5", 8)
        main.enable("mastodon-sidekiq@1")
        main.enable("mastodon-sidekiq.target")
        lab.boot()
        assert main.unit("mastodon-sidekiq@1").active, "enabled by hand, and fleetd is not even installed"
        long = at_work(main, main)
        main.shut_down()
        main.boot()
        main.wait_until("they run again", lambda: records.tally(main).running == len(LONG))
        tally = records.tally(main)
        assert (tally.done, tally.lost, tally.repeated) == (len(SHORT), (), ())
        pushed_back = {run.jid for run in records.runs([main]) if run.result == "pushed_back"}
        assert pushed_back == set(long)
