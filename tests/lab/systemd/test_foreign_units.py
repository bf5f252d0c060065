"""Units of an admin's own under our names, restarts of all workers by others, and needrestart, on a real systemd."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import Status
from lab.jobs import load
from lab.setup import mastodon, needrestart
from lab.setup.mastodon import LIVE, PROGRAM
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 2
instances = "1-4"
min = 2
max = 4
[pace]
tick_seconds = 1
"""
TEMPLATE, SCHEDULER = "mastodon-sidekiq@.service", "mastodon-sidekiq-scheduler.service"
#: As published, but for the program: no settings, no notify, and on the queues of its name.
PUBLISHED = f"""[Unit]
Description=somebody's sidekiq %i
[Service]
Type=simple
User=mastodon
WorkingDirectory={LIVE}
Environment="RAILS_ENV=production"
Environment="DB_POOL=5"
ExecStart={PROGRAM} -c 5 {{queues}}
TimeoutSec=15
Restart=always
[Install]
WantedBy=multi-user.target
"""
LAB_DROP_IN = "/etc/systemd/system/{}.d/50-lab.conf"  # the stand-in's program, which would replace theirs


@pytest.fixture(scope="module")
def module_fleet() -> Iterator[Fleet]:
    with started(CONFIG, boot_seconds=0.5) as fleet:
        fleet.wait("the scheduler runs too", lambda s: s.scheduler.unit_state == "serving")
        yield fleet


@pytest.fixture
def fleet(module_fleet: Fleet) -> Fleet:
    module_fleet.wait("all is as it should be", _well)
    return module_fleet


def _well(status: Status) -> bool:
    serving = [p.serving_instances for p in status.profiles]
    return serving == [2] and status.scheduler.unit_state == "serving" and not (status.overrides or status.problems)


def shadow(fleet: Fleet, unit: str, text: str) -> None:
    """Put somebody's unit where it hides ours."""
    fleet.worker.remove(LAB_DROP_IN.format(unit))
    fleet.worker.write(f"/etc/systemd/system/{unit}", text)
    fleet.worker.reload_systemd()


def way_over(fleet: Fleet, unit: str) -> list[str]:
    """The lines that fleetctl check-config prints."""
    said = fleet.worker.run(["/opt/fleetd/bin/fleetctl", "check-config"]).stdout
    assert f"/etc/systemd/system/{unit} is not fleetd's {unit} but somebody else's" in said
    return [
        line.strip() for line in said.partition("to use fleetd's instead, run:")[2].splitlines() if line[:6] == " " * 6
    ]


def go_over(fleet: Fleet, unit: str) -> None:
    """Run those lines, as the admin would."""
    mastodon.run_with_stand_in(fleet.worker, unit)
    lines = way_over(fleet, unit)
    assert len(lines) == 5
    fleet.worker.run(["sh", "-ec", "\n".join(lines)])


def ticks(fleet: Fleet, count: int) -> Status:
    begun = fleet.status().ticks_total
    return fleet.wait(f"{count} ticks later", lambda s: s.ticks_total >= begun + count)


def invocations(fleet: Fleet) -> list[str]:
    units = [f"mastodon-sidekiq@{number}.service" for number in sorted(fleet.up())]
    shown = fleet.worker.run(["systemctl", "show", "-P", "InvocationID", *units, SCHEDULER]).stdout
    return [line for line in shown.splitlines() if line]


def steps_since(fleet: Fleet, at: float) -> list[tuple[str, float, int | str]]:
    return [(verb, *step) for verb in ("start", "quiet", "stop") for step in fleet.steps(verb) if step[0] >= at]


def test_somebodys_template_starts_nothing_ends_nothing_and_is_no_second_scheduler(fleet: Fleet) -> None:
    """Its instances serve every queue. Some of ours still run; one of them dies, and systemd restarts it as theirs."""
    host, begun = fleet.worker, time.time()
    shadow(fleet, TEMPLATE, PUBLISHED.format(queues=""))
    load.enqueue(fleet.main, "default", [600.0] * 200)  # far more than two instances can do
    status = fleet.wait("a hold", lambda s: any(hold.kind == "units" for hold in s.holds))
    assert f"/etc/systemd/system/{TEMPLATE} is not fleetd's" in status.holds[0].sentence
    status = ticks(fleet, 5)
    assert {clamp.code for clamp in status.profiles[0].clamps} == {ClampCode.FOREIGN_UNIT}
    host.run(["systemctl", "start", "--no-block", "mastodon-sidekiq.target", "mastodon-workers-boot.service"])
    host.run(["systemctl", "restart", "fleetd-render"])
    ticks(fleet, 3)
    assert steps_since(fleet, begun) == []
    assert fleet.up() == {1, 2}
    assert fleet.status().scheduler.processes == 1
    assert host.run(["/opt/fleetd/bin/fleetctl", "drain", "1"], check=False).returncode != 0
    fleet.main.run(["redis-cli", "del", "queue:default"])
    mastodon.let_go(host)  # of the jobs that run
    go_over(fleet, TEMPLATE)
    fleet.wait("ours run", lambda s: not s.holds and s.profiles[0].serving_instances == 2)
    mastodon.hold(host)
    links = host.run(["ls", "/etc/systemd/system/mastodon-workers-boot.target.wants"]).stdout.split()
    assert links == [SCHEDULER, "mastodon-sidekiq@1.service", "mastodon-sidekiq@2.service"]


def test_somebodys_scheduler_is_left_alone_until_the_admin_goes_over(fleet: Fleet) -> None:
    fleet.worker.stop(SCHEDULER)
    shadow(fleet, SCHEDULER, PUBLISHED.format(queues="-q scheduler"))
    begun = time.time()
    fleet.worker.run(["systemctl", "enable", "--now", SCHEDULER])
    fleet.wait("it is the scheduler", lambda s: s.scheduler.processes == 1)
    ticks(fleet, 12)
    status = fleet.status()
    assert steps_since(fleet, begun) == []
    assert fleet.worker.unit(SCHEDULER).active
    assert any(f"/etc/systemd/system/{SCHEDULER} is not fleetd's" in problem for problem in status.problems)
    assert not status.holds  # the instances are ours
    go_over(fleet, SCHEDULER)
    fleet.wait("ours runs", lambda s: s.scheduler.unit_state == "serving" and not s.problems)
    assert fleet.worker.run(["systemctl", "show", "-P", "FragmentPath", SCHEDULER]).stdout.startswith("/usr/local/lib")


def test_needrestart_leaves_the_workers_alone_and_without_that_its_mass_restart_is_no_order(fleet: Fleet) -> None:
    host = fleet.worker
    needrestart.install(host)
    [library] = host.path("/usr/lib").glob("*/libjemalloc.so.2")  # every worker has it loaded
    shutil.copy(library, library.with_suffix(".new"))
    library.with_suffix(".new").replace(library)
    before, begun = invocations(fleet), time.time()
    said = host.run(["needrestart", "-r", "a", "-l"], check=False, env={"DEBIAN_FRONTEND": "noninteractive"})
    assert "mastodon-sidekiq@1.service" in said.stdout, said.stdout + said.stderr
    assert invocations(fleet) == before
    host.remove("/etc/needrestart/conf.d/50-fleetd.conf")
    load.enqueue(fleet.main, "default", [4.0] * 4)  # so that their stop takes as long
    fleet.wait("they are busy", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= 2)
    host.run(["needrestart", "-r", "a", "-l"], check=False, env={"DEBIAN_FRONTEND": "noninteractive"})
    assert not set(invocations(fleet)) & set(before)
    status = fleet.wait("all serve again", lambda s: s.profiles[0].serving_instances == 2)
    assert status.overrides == ()
    assert fleet.up() == {1, 2}
    assert steps_since(fleet, begun) == []
    assert any("restarted, not by fleetd" in line.message for line in fleet.said())
    assert not any("by hand" in line.message for line in fleet.said() if line.at >= begun)


@pytest.mark.parametrize(
    "order", [["restart", "mastodon-sidekiq@*"], ["restart", "mastodon-sidekiq.target"]], ids=["glob", "target"]
)
def test_a_restart_of_all_by_others_is_no_order_and_starts_no_others(fleet: Fleet, order: list[str]) -> None:
    begun, before = time.time(), invocations(fleet)
    load.enqueue(fleet.main, "default", [3.0] * 4)
    fleet.wait("they are busy", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= 2)
    fleet.worker.run(["systemctl", *order])
    status = fleet.wait("all serve again", lambda s: s.profiles[0].serving_instances == 2)
    assert before[0] not in invocations(fleet)
    assert status.overrides == ()
    assert steps_since(fleet, begun) == []
    assert not any("by hand" in line.message for line in fleet.said() if line.at >= begun)


def test_what_systemd_itself_ends_is_no_order(fleet: Fleet) -> None:
    """RuntimeMaxSec= of an hour is allowed; set at run time to a second it shows what it does."""
    begun = time.time()
    load.enqueue(fleet.main, "default", [3.0] * 4)
    fleet.wait("they are busy", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= 2)
    old = fleet.worker.unit("mastodon-sidekiq@1").main_pid
    fleet.worker.run(["systemctl", "set-property", "--runtime", "mastodon-sidekiq@1", "RuntimeMaxSec=1"], check=False)
    fleet.worker.kill("mastodon-sidekiq@1", signal.SIGTERM)
    fleet.wait("it serves again", lambda s: s.profiles[0].serving_instances == 2)
    assert fleet.worker.unit("mastodon-sidekiq@1").main_pid != old
    assert steps_since(fleet, begun) == []
    assert fleet.status().overrides == ()
