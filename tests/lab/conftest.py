"""Labs for tests that need hosts. Booting takes seconds, so tests that leave a lab as they found it share one."""

from collections.abc import Callable, Iterator

import pytest

from lab import Lab, topologies
from lab.jobs import records
from lab.setup import mastodon
from lab.topologies import TwoHosts

LabFactory = Callable[[], Lab]


@pytest.fixture
def lab_factory() -> Iterator[LabFactory]:
    """Makes private labs for a test. They end with the test."""
    labs: list[Lab] = []

    def make() -> Lab:
        lab = Lab()
        lab.__enter__()
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture(scope="session")
def shared_two_hosts() -> Iterator[TwoHosts]:
    """`main` and `worker1`, booted and shared by all tests. Leave nothing running, stopped or cut off."""
    with Lab() as lab:
        hosts = topologies.two_hosts(lab, boot_seconds=0.5)
        lab.boot()
        yield hosts


@pytest.fixture
def two_hosts(shared_two_hosts: TwoHosts) -> Iterator[TwoHosts]:
    """The shared hosts. After the test no worker runs, services and network are up, Redis and the records are empty."""
    worker, main = shared_two_hosts.worker, shared_two_hosts.main
    shared_two_hosts.lab.boot()  # a failed test may have left a host down, which must not fail all others
    yield shared_two_hosts
    shared_two_hosts.lab.boot()
    for host in (worker, main):
        host.thaw()
        host.join()
        for unit in (*host.units("fleetd.service"), *host.units("mastodon-sidekiq*.service")):
            host.stop(unit)
        host.run(["systemctl", "reset-failed"])
    for service in main.services:
        main.start(service)
    main.run(["redis-cli", "flushall"])
    mastodon.hold(worker)
    records.forget(shared_two_hosts.lab)
