"""A new configuration without a restart: a good one takes effect at once, a bad one is reported and ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lab.jobs import load
from tests.support.lab.fleet import FLEETCTL, Fleet, started

pytestmark = pytest.mark.lab

SECRET = "correct-horse-battery"


def configuration(instances: str, least: int) -> str:
    return f"""
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = 3
instances = "{instances}"
min = {least}

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 1
"""


#: Four mistakes, each of another kind.
BAD = f"""
[profiles.only]
order = "default-first"
thread = 3
instances = "1-3"
min = 5

[profiles.second]
queues = ["pull", "scheduler"]
instances = "3-4"

[redis]
url = "redis://:{SECRET}@main:port/0"
"""
MISTAKES = ("profiles.only.thread", "profiles.only.min", "profiles.second.queues", "redis.url")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(configuration("1-3", 1)) as fleet:
        yield fleet


def test_sighup_reads_a_good_configuration(fleet: Fleet) -> None:
    daemon = fleet.worker.unit("fleetd").main_pid
    fleet.configure(configuration("1-3", 2))
    fleet.worker.kill("fleetd", signal.SIGHUP)
    fleet.wait("the new min runs", lambda s: s.profiles[0].serving_instances == 2)
    assert fleet.up() == {1, 2}
    assert fleet.worker.unit("fleetd").main_pid == daemon


def test_a_reload_renders_new_numbers_first(fleet: Fleet) -> None:
    fleet.configure(configuration("1-4", 4))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("all four run", lambda s: s.profiles[0].serving_instances == 4)
    assert fleet.up() == {1, 2, 3, 4}


def test_a_reload_stops_instances_that_are_no_longer_configured(fleet: Fleet) -> None:
    fleet.configure(configuration("1-4", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("one is left", lambda s: s.profiles[0].running_instances == 1)
    fleet.worker.wait_until("systemd agrees", lambda: fleet.up() == {1})


def test_numbers_that_a_reload_takes_away_finish_their_jobs_and_go(fleet: Fleet) -> None:
    fleet.configure(configuration("1-4", 4))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("all four run", lambda s: s.profiles[0].serving_instances == 4)
    load.enqueue(fleet.main, "default", [8.0] * 12)
    fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) == 12)
    fleet.configure(configuration("1", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    seen = fleet.wait("they are shown", lambda s: {i.number for i in s.instances if not i.configured} == {2, 3, 4})
    assert all(i.note.startswith("fleetd.toml names it no more") for i in seen.instances if not i.configured)
    assert (seen.connections.claims_connections or 0) >= 4 * 5
    fleet.wait("they are gone", lambda s: [i.number for i in s.instances] == [1])
    assert fleet.up() == {1}
    fleet.worker.run(["systemctl", "restart", "fleetd-render"])
    settings = {path.name for path in fleet.worker.path("/var/lib/mastodon-sidekiq").glob("*.env")}
    assert settings == {"1.env", "scheduler.env"}
    fleet.configure(configuration("1-4", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("the numbers are back", lambda s: s.profiles[0].max_instances == 4)


@pytest.mark.parametrize("how", ["systemctl reload", "SIGHUP"])
def test_a_bad_configuration_is_refused_as_a_whole(fleet: Fleet, how: str) -> None:
    before, already = fleet.status(), len(fleet.said())
    daemon = fleet.worker.unit("fleetd").main_pid
    rendered = {p.name: p.read_text() for p in fleet.worker.path("/var/lib/mastodon-sidekiq").iterdir()}
    fleet.configure(BAD)
    if how == "SIGHUP":
        fleet.worker.kill("fleetd", signal.SIGHUP)
    else:
        assert fleet.worker.run(["systemctl", "reload", "fleetd"], check=False).returncode != 0
    fleet.wait("status shows the problem", lambda s: bool(s.problems))
    errors = "\n".join(line.message for line in fleet.said()[already:] if line.error)
    for mistake in MISTAKES:
        assert mistake in errors
    told = fleet.status()
    assert "refused" in told.problems[0]
    everything = errors + fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"]).stdout + str(told)
    assert SECRET not in everything

    target = told.ticks_total + 4
    after = fleet.wait("it goes on with the old one", lambda s: s.ticks_total >= target)
    assert fleet.worker.unit("fleetd").main_pid == daemon
    assert [(p.name, p.min_instances, p.max_instances) for p in after.profiles] == [
        (p.name, p.min_instances, p.max_instances) for p in before.profiles
    ]
    assert fleet.up() == {1}
    assert rendered == {p.name: p.read_text() for p in fleet.worker.path("/var/lib/mastodon-sidekiq").iterdir()}

    fleet.configure(configuration("1-4", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("a good one ends the problem", lambda s: not s.problems)


def test_a_reload_fails_for_what_only_fleetd_refuses_and_the_line_that_is_told_mends_it(fleet: Fleet) -> None:
    """Root renders a file that only root may read; fleetd can't read it."""
    file = "/etc/fleetd/fleetd.toml"
    check = ["/opt/fleetd/bin/fleetctl", "check-config", "--config", file]
    assert fleet.worker.run(check, check=False).returncode == 0
    fleet.worker.run(["chown", "root:root", file])
    fleet.worker.run(["chmod", "0600", file])
    already = len(fleet.said())
    assert fleet.worker.run(["systemctl", "reload", "fleetd"], check=False).returncode != 0
    line = f"chgrp fleetd {file} && sudo chmod 0640 {file}"
    assert any(line in said.message for said in fleet.said()[already:])
    fleet.wait("status says so", lambda s: any(line in problem for problem in s.problems))
    checked = fleet.worker.run(check, check=False)
    assert checked.returncode == 1
    assert f"Run: sudo {line}" in checked.stdout
    fleet.worker.run(["sh", "-c", line.replace("sudo ", "")])
    assert fleet.worker.run(check, check=False).returncode == 0
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    assert fleet.wait("it is taken", lambda s: not s.problems)


def test_an_observing_fleetd_starts_nothing_over_a_surge_until_it_is_told_to_act(fleet: Fleet) -> None:
    fleet.configure('[fleet]\nmode = "observe"\n' + configuration("1-4", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("it observes", lambda s: s.mode == "observe")
    before = fleet.steps("start")
    load.enqueue(fleet.main, "default", [30.0] * 60)
    seen = fleet.wait("it would grow", lambda s: any(w.verb == "start" and len(w.keys) == 3 for w in s.would))
    fleet.wait("some ticks more", lambda s: s.ticks_total >= seen.ticks_total + 5)
    assert fleet.up() == {1}
    assert "OBSERVES ONLY" in fleet.worker.run([FLEETCTL, "status"]).stdout
    history = fleet.worker.run([FLEETCTL, "history", "--since", "10m"]).stdout
    assert "would start mastodon-sidekiq@2, @3, @4: only has 1 of 4 wanted" in " ".join(history.split()), history

    fleet.worker.run([FLEETCTL, "set", "only", "2", "--for", "5m"])
    fleet.worker.wait_until("a person's order is carried out", lambda: fleet.up() == {1, 2})
    fleet.worker.run([FLEETCTL, "set", "only", "auto"])
    fleet.configure(configuration("1-4", 1))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.worker.wait_until("it acts", lambda: fleet.up() == {1, 2, 3, 4})
    assert [number for _, number in fleet.steps("start")[len(before) :]] == [2, 3, 4]
