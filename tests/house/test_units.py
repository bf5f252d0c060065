"""The unit files: systemd's own verification, and the pitfalls that tests/lab/systemd tries for real."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fleetd.adapters.bus.control import CHANGE_DEADLINE_SECONDS
from fleetd.adapters.bus.interface import BUS_NAME, MANAGER, MANAGER_PATH, METHODS
from fleetd.adapters.mastodon.code import FILES, WATCHED, WATCHED_GIT
from fleetd.adapters.mastodon.env_file import EnvFile, env_file_from
from fleetd.adapters.rendering.rendered_files import ENV_COPY
from fleetd.app.given_env import CREDENTIAL
from fleetd.app.may_schedule import REFUSED
from fleetd.config.access_tables import MastodonSection
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, InstanceKey, unit_of
from fleetd.core.model.worker_settings import SHUTDOWN_SECONDS, settings_file_name
from tests.support.project import PROJECT

UNITS = PROJECT / "units"
WORKERS = ("mastodon-sidekiq@.service", "mastodon-sidekiq-scheduler.service")
FLEETD = (
    "fleetd.service",
    "fleetd-render.service",
    "fleetd-stamp.service",
    "fleetd-stamp-again.service",
    "fleetd-stamp.path",
    "fleetd-render.path",
    "fleetd-stamp-git.path",
    "fleetd-stamp.timer",
)
TARGETS = ("mastodon-sidekiq.target", "mastodon-workers-boot.target")
#: The units that start and stop workers without fleetd.
BOOT, SHUTDOWN = "mastodon-workers-boot.service", "mastodon-workers-shutdown.service"
#: Programs that the units name and that a test machine does not have.
PROGRAMS = (
    "opt/fleetd/bin/fleetd",
    "opt/fleetd/bin/fleetd-render",
    "opt/fleetd/bin/fleetd-stamp",
    "home/mastodon/.rbenv/shims/bundle",
)

Settings = list[tuple[str, str]]


def read(unit: str) -> dict[str, Settings]:
    """The settings of each section, in order."""
    sections: dict[str, Settings] = {}
    current: Settings = []
    for line in (UNITS / unit).read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current.append((key, value))
    return sections


def values(unit: str, key: str, section: str = "Service") -> list[str]:
    return [value for name, value in read(unit)[section] if name == key]


def seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)(min|h)?", text)
    assert match is not None
    return int(match[1]) * {None: 1, "min": 60, "h": 3600}[match[2]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory as units/install.sh leaves it, with this machine's own units, and stand-ins for programs."""
    subprocess.run([UNITS / "install.sh", tmp_path], check=True, capture_output=True)
    for program in (*PROGRAMS, "usr/bin/test", "usr/bin/busctl", "bin/sh", "bin/systemctl"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/usr/bin/true", tmp_path / program)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    return tmp_path


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", f"--root={root}", *arguments], capture_output=True, text=True, check=False
    )


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    done = analyze(root, "verify", *FLEETD, *TARGETS, BOOT, SHUTDOWN, unit_of(InstanceKey(1)), SCHEDULER_UNIT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_verification_notices_mistakes(root: Path) -> None:
    (root / "usr/local/lib/systemd/system/fleetd.service").write_text("[Service]\nExecStart=/nowhere\nMemoryMx=1\n")
    complaint = analyze(root, "verify", "fleetd.service").stderr
    assert "/nowhere is not executable" in complaint
    assert "MemoryMx" in complaint


@pytest.mark.parametrize(
    ("unit", "exposure"),
    [
        ("fleetd.service", 1.0),
        ("fleetd-render.service", 1.5),
        ("fleetd-stamp.service", 1.5),
        ("fleetd-stamp-again.service", 1.5),
        (BOOT, 1.4),
        (SHUTDOWN, 1.4),
        (unit_of(InstanceKey(1)), 1.7),
        (SCHEDULER_UNIT, 1.7),
    ],
)
def test_hardening_is_not_lost(root: Path, unit: str, exposure: float) -> None:
    done = analyze(root, "--offline=true", f"--threshold={exposure * 10 + 1:.0f}", "security", unit)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert match is not None, done.stderr
    assert float(match[1]) <= exposure


@pytest.mark.parametrize("unit", WORKERS)
def test_a_worker_unit_avoids_the_known_pitfalls(unit: str) -> None:
    (settings,) = values(unit, "EnvironmentFile")
    assert not settings.startswith("-")  # without settings it would serve every queue, including the scheduler's
    assert values(unit, "AssertPathExists", "Unit") == [settings]  # fails before it uses up a restart
    assert values(unit, "Type") == ["notify"]
    assert values(unit, "NotifyAccess") == ["all"]
    assert values(unit, "WatchdogSec") == []  # would abort a busy worker that is starved
    assert values(unit, "KillMode") == ["mixed"]  # ffmpeg gets no signal while its job still runs
    assert values(unit, "OOMPolicy") == ["continue"]
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "StartLimitIntervalSec", "Unit")
    assert values(unit, "StartLimitBurst", "Unit")
    assert values(unit, "PartOf", "Unit") == ["mastodon-sidekiq.target"]


@pytest.mark.parametrize("unit", WORKERS)
def test_a_check_that_refuses_does_not_count_as_success(unit: str) -> None:
    """Law 1: a check that exits with a status from SuccessExitStatus= would start what it should refuse."""
    clean = " ".join(values(unit, "SuccessExitStatus")).split()
    checks = values(unit, "ExecStartPre")
    assert checks
    for check in checks:
        done = subprocess.run(shlex.split(check.replace("%i", "scheduler")), env={"SIDEKIQ_ARGS": ""}, check=False)
        assert done.returncode not in (0, *(int(status) for status in clean if status.isdigit())), check


@pytest.mark.parametrize("unit", WORKERS)
def test_a_stopping_worker_has_time_to_push_its_jobs_back(unit: str) -> None:
    """Law 4: -t, 3 s to push back, up to 10 s of Mastodon's exit hooks."""
    (stop,) = values(unit, "TimeoutStopSec")
    assert seconds(stop) >= SHUTDOWN_SECONDS + 3 + 10 + 10


@pytest.mark.parametrize("unit", WORKERS)
def test_a_starved_boot_has_enough_time(unit: str) -> None:
    (start,) = values(unit, "TimeoutStartSec")
    assert seconds(start) >= 300  # a starved boot of Rails takes minutes


@pytest.mark.parametrize("unit", WORKERS)
def test_a_worker_stops_before_the_servers_it_needs(unit: str) -> None:
    """Law 4: a worker that stops after Redis loses the jobs that it would push back."""
    after = " ".join(values(unit, "After", "Unit")).split()
    assert {"network.target", "redis-server.service", "postgresql.service", "pgbouncer.service"} <= set(after)
    assert "fleetd.service" not in " ".join(value for _, value in read(unit)["Unit"])  # law 5


@pytest.mark.parametrize("unit", WORKERS)
def test_a_vpn_stays_up_until_the_workers_have_stopped(unit: str) -> None:
    """Law 4: a VPN has no ordering of its own with workers. Also, a start must not wait for the whole boot."""
    assert SHUTDOWN in " ".join(values(unit, "Wants", "Unit")).split()
    assert SHUTDOWN not in " ".join(values(unit, "After", "Unit")).split()
    assert values(SHUTDOWN, "After", "Unit") == ["multi-user.target"]
    (mine,), (workers,) = values(SHUTDOWN, "TimeoutStopSec"), values(unit, "TimeoutStopSec")
    assert seconds(mine) > seconds(workers)


def test_a_boot_does_not_start_all_workers_at_the_same_time() -> None:
    for unit in WORKERS:
        assert values(unit, "WantedBy", "Install") == ["mastodon-workers-boot.target"]
        before_and_after = values(unit, "After", "Unit") + values(unit, "Before", "Unit")
        # If they waited for each other, starts by fleetd would wait as well, and a shutdown would stop them one by one.
        assert not re.search("mastodon-(sidekiq|workers)", " ".join(before_and_after))
    assert values("mastodon-workers-boot.target", "RefuseManualStart", "Unit") == ["yes"]
    assert BOOT in values("mastodon-sidekiq.target", "Wants", "Unit")[0].split()
    assert values(BOOT, "PartOf", "Unit") == ["mastodon-sidekiq.target"]


def test_a_boot_needs_no_program_of_fleetd() -> None:
    """Law 5: a boot works without fleetd. What the scheduler's unit asks may be missing, as the next test shows."""
    (asks,) = values(SCHEDULER_UNIT, "ExecCondition")
    for unit in (*WORKERS, *TARGETS, BOOT, SHUTDOWN):
        assert "/opt/fleetd" not in (UNITS / unit).read_text().replace(asks, "")
    assert "/opt/fleetd" not in (UNITS / "boot.sh").read_text()


@pytest.mark.parametrize(
    ("program", "starts"),
    [
        (None, True),  # it was removed
        ("exit 0", True),
        (f"exit {REFUSED}", False),
        ("exit 1", True),  # Python failed
        ("exit 126", True),
        ("kill -KILL $$", True),
        ("kill -TERM $$", True),
    ],
)
def test_only_a_no_keeps_the_scheduler_from_starting(tmp_path: Path, program: str | None, starts: bool) -> None:
    """Laws 1 and 5: every other status, and a program that is not there, lets it start."""
    (asks,) = values(SCHEDULER_UNIT, "ExecCondition")
    path = tmp_path / "fleetd-may-schedule"
    if program is not None:
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
    command = asks.replace("/opt/fleetd/bin/fleetd-may-schedule", str(path))
    assert command != asks
    status = subprocess.run(shlex.split(command), check=False, capture_output=True).returncode
    clean = {int(word) for word in " ".join(values(SCHEDULER_UNIT, "SuccessExitStatus")).split() if word.isdigit()}
    assert (status in {0, *clean}) is starts
    assert status < 255  # which would be a failure
    assert values(WORKERS[0], "ExecCondition") == []


def test_the_watch_has_what_the_stamp_reads_and_does_not_give_up() -> None:
    directory = Path(MastodonSection().env_file).parent
    watched = [str(path) for path in (directory.parent, directory, *(directory / name for name in WATCHED))]
    assert values("fleetd-stamp.path", "PathChanged", "Path") == watched
    assert {str((directory / name).parent) for name in FILES} <= set(watched)
    assert values("fleetd-stamp-git.path", "PathChanged", "Path") == [str(directory / WATCHED_GIT)]
    assert values("fleetd-stamp.service", "Environment") == [f"MASTODON_DIRECTORY={directory}"]
    for suffix in (".path", "-git.path", ".timer", ".service", "-again.service"):
        assert values(f"fleetd-stamp{suffix}", "StartLimitIntervalSec", "Unit") == ["0"]
    watches = {"fleetd-stamp.path", "fleetd-stamp-git.path"}
    assert watches | {"fleetd-stamp.timer"} <= set(values("fleetd.service", "Wants", "Unit")[0].split())
    assert set(values("fleetd-stamp.service", "Wants", "Unit")[0].split()) == watches


def test_the_second_look_comes_once_the_watch_is_back() -> None:
    """It also follows a look of the timer's, during which the watch sees nothing either."""
    again = "fleetd-stamp-again.service"
    assert read(again)["Service"] == read("fleetd-stamp.service")["Service"]
    assert values("fleetd-stamp.service", "OnSuccess", "Unit") == [again]
    assert values(again, "OnSuccess", "Unit") == []  # otherwise it would never end
    assert values("fleetd-stamp.path", "Unit", "Path") == values("fleetd-stamp.timer", "Unit", "Timer") == []
    assert values("fleetd-stamp-git.path", "Unit", "Path") == ["fleetd-stamp.service"]
    # A look that is under way must not start a watch again that has been stopped.
    assert values(again, "Requisite", "Unit") == values(again, "After", "Unit") == ["fleetd-stamp.path"]
    assert values(again, "Wants", "Unit") == []


def test_an_instance_that_fails_at_once_is_given_up_and_a_failing_boot_is_not() -> None:
    for unit in WORKERS:
        (interval,) = values(unit, "StartLimitIntervalSec", "Unit")
        (burst,), (pause,) = values(unit, "StartLimitBurst", "Unit"), values(unit, "RestartSec")
        at_once, rails_boot = seconds(pause), seconds(pause) + 8
        assert at_once * int(burst) < seconds(interval) < rails_boot * int(burst)


def test_units_and_settings_agree_on_names() -> None:
    directory = "/var/lib/mastodon-sidekiq/"
    assert values(WORKERS[0], "EnvironmentFile") == [directory + settings_file_name(InstanceKey(1)).replace("1", "%i")]
    assert values(WORKERS[1], "EnvironmentFile") == [directory + settings_file_name(SCHEDULER)]
    assert (unit_of(InstanceKey(1)).replace("1", ""), SCHEDULER_UNIT) == WORKERS


def test_the_schedulers_unit_is_an_instance_with_other_settings() -> None:
    instance, scheduler = read(WORKERS[0])["Service"], read(WORKERS[1])["Service"]
    differing = {key for key, _ in set(instance) ^ set(scheduler)}
    assert differing == {"EnvironmentFile", "ExecCondition", "ExecStartPre"}
    (check,) = set(values(WORKERS[0], "ExecStartPre")) - set(values(WORKERS[1], "ExecStartPre"))
    assert '"%i" -gt 0' in check


def test_no_worker_belongs_to_fleetd() -> None:
    """Law 5: stopping, restarting or removing fleetd.service reaches no worker."""
    text = "".join((UNITS / unit).read_text() for unit in FLEETD).replace("\nPartOf=fleetd.service\n", "\n")
    for key in ("BindsTo", "PropagatesStopTo", "Conflicts", "Requires", "PartOf", "Upholds"):
        assert f"\n{key}=" not in text


def test_fleetd_starts_without_mastodons_settings() -> None:
    """And systemd opens nothing as root that belongs to Mastodon."""
    assert values("fleetd.service", "LoadCredential") == [f"{CREDENTIAL}:{ENV_COPY}"]
    (fallback,) = values("fleetd.service", "SetCredential")
    assert env_file_from(fallback.removeprefix(f"{CREDENTIAL}:").encode()) == EnvFile()
    assert values("fleetd-render.service", "RuntimeDirectory") == [ENV_COPY.parent.name]
    assert values("fleetd-render.service", "RuntimeDirectoryMode") == ["0700"]
    assert values("fleetd-render.service", "RuntimeDirectoryPreserve") == ["yes"]


def test_a_reload_renders_first_in_its_sandbox_and_always_asks_fleetd() -> None:
    """And fails if fleetd refuses: a signal would bring no answer."""
    render, ask, result = values("fleetd.service", "ExecReload")
    assert render == "-+/bin/systemctl restart fleetd-render.service"
    assert ask.startswith("/usr/bin/busctl ")
    assert ask.endswith(f" call {BUS_NAME} {MANAGER_PATH} {MANAGER} Reload")
    assert (MANAGER, "Reload") in METHODS
    (deadline,) = re.findall(r"--timeout=([0-9]+) ", ask)
    assert int(deadline) > CHANGE_DEADLINE_SECONDS
    assert result.startswith("/bin/sh -c ")
    assert values("fleetd-render.service", "StartLimitIntervalSec", "Unit") == ["0"]
    (rendering,), (reloading,) = (values(f"{u}.service", "TimeoutStartSec") for u in ("fleetd-render", "fleetd"))
    assert seconds(rendering) < seconds(reloading)


def test_no_unit_runs_a_program_of_its_own_as_root_outside_its_sandbox() -> None:
    for unit in UNITS.glob("*.service"):
        for key, value in read(unit.name)["Service"]:
            if key.startswith("Exec") and re.match(r"[-@:]*[+!]", value):
                assert value == "-+/bin/systemctl restart fleetd-render.service"


def test_no_capability_lets_root_past_permissions() -> None:
    for unit in ("fleetd-render.service", "fleetd-stamp.service", "fleetd-stamp-again.service"):
        assert values(unit, "CapabilityBoundingSet") == ["CAP_SETUID CAP_SETGID CAP_KILL"]


def test_everything_in_units_is_installed(root: Path) -> None:
    installed = {path.read_bytes() for path in root.rglob("*") if path.is_file() and "usr/lib/" not in str(path)}
    for file in UNITS.iterdir():
        assert file.name == "install.sh" or file.read_bytes() in installed, file.name


@pytest.mark.skipif(shutil.which("perl") is None, reason="no perl")
@pytest.mark.parametrize(
    ("service", "left_alone"),
    [
        ("mastodon-sidekiq@1.service", True),
        ("mastodon-sidekiq@12.service", True),
        (SCHEDULER_UNIT, True),
        ("mastodon-sidekiq.service", False),  # the stock unit is none of ours
        ("mastodon-web.service", False),
        ("fleetd.service", False),  # its restart touches no worker
        ("xmastodon-sidekiq@1.service", False),
    ],
)
def test_needrestart_leaves_the_workers_alone(service: str, left_alone: bool) -> None:
    """needrestart evaluates the file, and takes the first pattern that fits."""
    program = "our %nrconf; do shift or die; print scalar grep { $ARGV[0] =~ /$_/ } keys %{$nrconf{override_rc}}"
    command = ["perl", "-e", program, str(UNITS / "needrestart.conf"), service]
    assert subprocess.check_output(command, text=True) == ("1" if left_alone else "0")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the rule in; the lab asks polkit itself")
@pytest.mark.parametrize(
    ("user", "action", "unit", "verb", "result"),
    [
        ("fleetd", "manage-units", "mastodon-sidekiq@1.service", "start", "yes"),
        ("fleetd", "manage-units", "mastodon-sidekiq@9999.service", "kill", "yes"),
        ("fleetd", "manage-units", "mastodon-sidekiq-scheduler.service", "stop", "yes"),
        ("fleetd", "manage-units", "mastodon-sidekiq@1.service", "reset-failed", "yes"),
        ("fleetd", "manage-units", "mastodon-sidekiq@1.service", "set-property", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@1.service", None, "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@10000.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@0.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@00.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@01.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@scheduler.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq@1.service\n", "start", "no"),
        ("fleetd", "manage-units", "xmastodon-sidekiq@1.service", "start", "no"),
        ("fleetd", "manage-units", "mastodon-sidekiq.service", "start", "no"),
        ("fleetd", "manage-units", "ssh.service", "stop", "no"),
        ("fleetd", "manage-units", None, "start", "no"),
        ("fleetd", "manage-unit-files", "mastodon-sidekiq@1.service", "start", "no"),
        ("fleetd", "reload-daemon", None, None, "no"),
        ("mastodon", "manage-units", "mastodon-sidekiq@1.service", "start", None),
    ],
)
def test_polkit_lets_fleetd_do_this(
    user: str, action: str, unit: str | None, verb: str | None, result: str | None
) -> None:
    program = (
        "var rule; var polkit = {Result: {YES: 'yes', NO: 'no', NOT_HANDLED: null}};"
        + "polkit.addRule = function (r) { rule = r; };"
        + (UNITS / "50-fleetd.rules").read_text()
        + f"var found = {json.dumps({'unit': unit, 'verb': verb})};"
        + "var lookup = function (k) { return found[k] === null ? undefined : found[k]; };"
        + f"var action = {{id: {json.dumps('org.freedesktop.systemd1.' + action)}, lookup: lookup}};"
        + f"console.log(JSON.stringify(rule(action, {{user: {json.dumps(user)}}})));"
    )
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == result
