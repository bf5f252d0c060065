"""Units of an admin's own under our names, restarts of all workers by others, and needrestart, on a real systemd."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import Status
from fleetd.core.model.unit_rules.values import is_understood, span_seconds
from lab.jobs import load
from lab.setup import mastodon, needrestart
from lab.setup.mastodon import LIVE, PROGRAM
from tests.support.lab.fleet import FLEETCTL, Fleet, started

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 2
instances = "1-4"
min = 2
max = 2  # on a slow machine one more would come, and its start is none of these tests
[targets]
default = 120  # what is pushed back in a restart waits for less, and calls for nobody
[pace]
tick_seconds = 1
hold_down_seconds = 10
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


#: systemd's properties, and the settings of which each comes.
PROPERTIES = {
    "KillMode": ("KillMode",),
    "Restart": ("Restart",),
    "Type": ("Type",),
    "TimeoutStopUSec": ("TimeoutStopSec", "TimeoutSec"),
    "RestartUSec": ("RestartSec",),
}
DROP_INS = [
    "KillMode=process\nTimeoutStopSec=1min 30s\nTimeoutSec=2min30s\nRestartSec=500ms",
    "TimeoutSec=15\nTimeoutSec=60 # s\nRestartSec=.25min\nRestartSec=+.5min\nKillMode=Mixed\nRestart=\nRestart=no # x",
    'TimeoutSec=+1min 5s\nRestartSec=\nEnvironment="A=1" \\\n\nKillMode=process\nRestart=on-abort \\ \nType=exec\\\\',
    "TimeoutStopSec=2min\nRestartSec=90\nKillMode=process\nType=\xff\n\n[Service\nRestart=no",
    "TimeoutSec=infinity\nTimeoutStopSec=1h\n  Type = exec  \n;Type=simple\nRestart=\\\n# in between\non-failure",
]


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


def install_again(fleet: Fleet) -> str:
    """What an installation warns of."""
    return fleet.worker.run([FLEETCTL, "install-units"]).stderr


def go_over(fleet: Fleet, unit: str) -> None:
    """Run those lines, as the admin would."""
    mastodon.run_with_stand_in(fleet.worker, unit)
    lines = way_over(fleet, unit)
    assert len(lines) == 5
    done = fleet.worker.run(["sh", "-ec", "\n".join(lines)], check=False)
    assert done.returncode == 0, f"{done.stderr}\n{fleet.story()}"


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
    hides = f"/etc/systemd/system/{TEMPLATE} is not fleetd's {TEMPLATE} but somebody else's"
    assert hides in install_again(fleet)
    load.enqueue(fleet.main, "default", [600.0] * 200)  # far more than two instances can do
    status = fleet.wait("a hold", lambda s: any(hold.kind == "units" for hold in s.holds))
    assert f"/etc/systemd/system/{TEMPLATE} is not fleetd's" in status.holds[0].sentence
    status = ticks(fleet, 3)
    assert {clamp.code for clamp in status.profiles[0].clamps} == {ClampCode.FOREIGN_UNIT}
    host.run(["systemctl", "start", "--no-block", "mastodon-sidekiq.target", "mastodon-workers-boot.service"])
    host.run(["systemctl", "restart", "fleetd-render"])
    ticks(fleet, 2)
    assert steps_since(fleet, begun) == []
    assert fleet.up() == {1, 2}
    assert fleet.status().scheduler.processes == 1
    assert host.run(["/opt/fleetd/bin/fleetctl", "drain", "1"], check=False).returncode != 0
    fleet.main.run(["redis-cli", "del", "queue:default"])
    go_over(fleet, TEMPLATE)
    # The other unit's own TimeoutSec= would have killed the four jobs that ran. They were pushed back.
    assert len(fleet.tally().lost) == 200 - 4, "but for those that were removed above"
    fleet.main.run(["redis-cli", "del", "queue:default"])
    mastodon.let_go(host)
    # What was pushed back waits for so long that one more may have been started for it.
    fleet.wait("ours run", lambda s: not s.holds and (s.profiles[0].serving_instances or 0) >= 2)
    mastodon.hold(host)
    links = host.run(["ls", "/etc/systemd/system/mastodon-workers-boot.target.wants"]).stdout.split()
    assert "is not fleetd's" not in install_again(fleet)
    fleet.wait("two are enough again", _well)
    assert links == [SCHEDULER, "mastodon-sidekiq@1.service", "mastodon-sidekiq@2.service"]


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
    busy(fleet)
    host.run(["needrestart", "-r", "a", "-l"], check=False, env={"DEBIAN_FRONTEND": "noninteractive"})
    assert not set(invocations(fleet)) & set(before)
    was_no_order(fleet, begun)


def busy(fleet: Fleet) -> None:
    """Give the workers jobs that are longer than a beat, so that their stop takes some ticks."""
    load.enqueue(fleet.main, "default", [7.0] * 2)  # more would need a third instance where the machine is slow
    fleet.wait("they are busy", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= 2)


def was_no_order(fleet: Fleet, begun: float) -> None:
    status = fleet.wait("all serve again", lambda s: s.profiles[0].serving_instances == 2)
    assert status.overrides == ()
    assert fleet.up() == {1, 2}
    assert steps_since(fleet, begun) == []
    said = [line.message for line in fleet.said() if line.at >= begun]
    assert any("restarted, not by fleetd" in line for line in said)
    assert not any("by hand" in line for line in said)


@pytest.mark.parametrize("lines", DROP_INS)
def test_unit_files_are_read_as_systemd_reads_them(module_fleet: Fleet, tmp_path: Path, lines: str) -> None:
    host, unit = module_fleet.worker, "mastodon-sidekiq@3.service"
    drop_in = f"/run/systemd/system/{unit}.d/x.conf"
    host.write(drop_in, f"\ufeff[Service]\n{lines}\n[Install]\nKillMode=none\n")
    host.reload_systemd()
    shown = host.run(["systemctl", "show", f"--property=FragmentPath,DropInPaths,{','.join(PROPERTIES)}", unit]).stdout
    systemd = dict(line.split("=", 1) for line in shown.splitlines())
    for path in (systemd["FragmentPath"], *systemd["DropInPaths"].split()):
        copy = tmp_path / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(host.read(path))
    host.remove(drop_in)
    host.reload_systemd()
    text = UnitFiles(tmp_path).text(unit)
    assert text is not None
    ours = {
        name: [line.value for line in text.lines if line.name in names and is_understood(line.name, line.value)][-1]
        for name, names in PROPERTIES.items()
    }
    for name in ("KillMode", "Restart", "Type"):
        assert systemd[name] == ours[name]
    for name in ("TimeoutStopUSec", "RestartUSec"):
        assert span_seconds(systemd[name]) == span_seconds(ours[name])


def test_somebodys_scheduler_is_left_alone_until_the_admin_goes_over(fleet: Fleet) -> None:
    fleet.worker.stop(SCHEDULER)
    shadow(fleet, SCHEDULER, PUBLISHED.format(queues="-q scheduler"))
    begun = time.time()
    fleet.worker.run(["systemctl", "enable", "--now", SCHEDULER])
    fleet.wait("it is the scheduler", lambda s: s.scheduler.processes == 1)
    ticks(fleet, 6)
    status = fleet.status()
    assert steps_since(fleet, begun) == []
    assert fleet.worker.unit(SCHEDULER).active
    assert any(f"/etc/systemd/system/{SCHEDULER} is not fleetd's" in problem for problem in status.problems)
    assert not status.holds  # the instances are ours
    go_over(fleet, SCHEDULER)
    fleet.wait("ours runs", lambda s: not s.problems and s.scheduler.unit_state == "serving")
    assert fleet.worker.run(["systemctl", "show", "-P", "FragmentPath", SCHEDULER]).stdout.startswith("/usr/local/lib")


def test_systemd_has_no_job_for_a_unit_that_it_ends_itself(module_fleet: Fleet) -> None:
    """By this fleetd tells RuntimeMaxSec= from a stop by hand."""
    host = module_fleet.worker
    host.write("/run/systemd/system/mastodon-sidekiq@4.service.d/x.conf", "[Service]\nRuntimeMaxSec=2\n")
    host.reload_systemd()
    load.enqueue(module_fleet.main, "default", [20.0] * 6)
    host.start("mastodon-sidekiq@4")
    show = ["systemctl", "show", "--property=ActiveState,Job", "mastodon-sidekiq@4"]
    host.wait_until("it ends", lambda: "ActiveState=deactivating" in host.run(show).stdout)
    assert set(host.run(show).stdout.split()) == {"ActiveState=deactivating", "Job="}
    host.run(["systemctl", "stop", "--no-block", "mastodon-sidekiq@4"])
    assert "Job=" not in host.run(show).stdout.split()
