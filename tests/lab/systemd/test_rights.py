"""Rights: everyone may read, few may change, fleetd may touch only its own units, and secrets are never shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from lab import Host
from lab.jobs import load
from lab.setup import mastodon, services
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

REDIS_PASSWORD = "correct-horse-redis"
SECRETS = (
    REDIS_PASSWORD,
    services.DB_PASSWORD,
    "wrong-horse-redis",
    "wrong-horse-database",
    "horse-in-the-config",
)
CONFIG = """
[scheduler]
place = "elsewhere"
[profiles.local]
threads = 5
instances = "1-4"
min = 1
[pace]
tick_seconds = 1
"""
FLEETCTL = "/opt/fleetd/bin/fleetctl"
MANAGER = ("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager")
RELOAD = ["busctl", "call", *MANAGER, "Reload"]
# A service of somebody else, which runs, and the names that look most like ours.
OTHER = "[Service]\nExecStart=/bin/sleep infinity\n"
OTHERS = ("other.service", "mastodon-sidekiq.service", "mastodon-sidekiq@evil.service", "fleetd.service")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG, redis_password=REDIS_PASSWORD, settings={"REDIS_PASSWORD": REDIS_PASSWORD}) as fleet:
        mastodon.install_stock_unit(fleet.worker, enable=False)
        fleet.worker.write("/etc/systemd/system/other.service", OTHER)
        fleet.worker.run(["useradd", "--groups", "fleetd", "oncall"])
        fleet.worker.reload_systemd()
        for unit in OTHERS[:2]:
            fleet.worker.start(unit)
        yield fleet


def try_as(host: Host, user: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    return host.run(list(command), user=user, check=False)


def refused(host: Host, user: str, *command: str) -> str:
    """The reason for which it was refused. Fails if it was not refused."""
    done = try_as(host, user, *command)
    assert done.returncode != 0, f"{user} could: {' '.join(command)}"
    return done.stdout + done.stderr


def what_runs(host: Host) -> dict[str, str]:
    """Every unit of interest, and which run of it is under way."""
    names = [*OTHERS[:2], "mastodon-sidekiq@evil.service", "fleetd.service"]
    names += [f"mastodon-sidekiq@{number}.service" for number in (1, 2, 3, 4)]
    found = {}
    for name in names:
        properties = host.unit(name).properties
        found[name] = f"{properties['ActiveState']} {properties['InvocationID']} {properties['CPUWeight']}"
    return found


def log_level(fleet: Fleet) -> str:
    return fleet.worker.run(["systemctl", "service-log-level", "fleetd"]).stdout.strip()


def test_a_stop_of_the_stock_unit_leaves_it_the_time_to_push_its_jobs_back(fleet: Fleet) -> None:
    """Its own TimeoutSec=15 is shorter than Sidekiq's -t, and the installation begins with stopping it."""
    shown = fleet.worker.run(["systemctl", "show", "-P", "TimeoutStopUSec", "mastodon-sidekiq.service"]).stdout
    assert shown.strip() == "1min"


def test_everyone_can_read(fleet: Fleet) -> None:
    worker = fleet.worker
    shown = try_as(worker, "nobody", FLEETCTL, "status")
    assert shown.returncode == 0
    assert "local" in shown.stdout
    told = json.loads(try_as(worker, "nobody", FLEETCTL, "status", "--json").stdout)
    assert told["host"] == "worker1"
    assert told["version"] in try_as(worker, "nobody", "busctl", "get-property", *MANAGER, "Version").stdout
    assert try_as(worker, "nobody", "curl", "-s", "http://127.0.0.1:9849/healthz").stdout.startswith("ok")


@pytest.mark.parametrize(
    "command",
    [
        RELOAD,
        ["busctl", "call", *MANAGER, "Pause", "ds", "60", ""],
        [FLEETCTL, "drain", "1"],
        ["systemctl", "reload", "fleetd"],
        ["systemctl", "stop", "fleetd"],
        ["systemctl", "service-log-level", "fleetd", "debug"],
        ["systemctl", "start", "mastodon-sidekiq@2"],
        ["systemctl", "stop", "mastodon-sidekiq@1"],
        ["systemctl", "kill", "mastodon-sidekiq@1"],
        ["systemctl", "start", "fleetd-render"],
        ["/opt/fleetd/bin/fleetd-render"],
        ["sh", "-c", "echo >> /var/lib/mastodon-sidekiq/1.env"],
        ["sh", "-c", "echo >> /etc/fleetd/fleetd.toml"],
        ["cat", "/etc/fleetd/fleetd.toml"],  # it may hold a password
        ["ls", "/var/lib/fleetd"],
        ["cat", "/var/lib/fleetd/host.json"],
        ["sh", "-c", "echo >> /var/lib/fleetd/history.sqlite"],
        ["touch", "/opt/fleetd/bin/fleetctl"],
        ["curl", "-sf", "-X", "POST", "http://127.0.0.1:9849/metrics"],
    ],
    ids=" ".join,
)
def test_nobody_can_change_anything(fleet: Fleet, command: list[str]) -> None:
    before, level = what_runs(fleet.worker), log_level(fleet)
    why = refused(fleet.worker, "nobody", *command)
    assert "Traceback" not in why
    assert what_runs(fleet.worker) == before
    assert log_level(fleet) == level


def test_a_member_of_the_group_gives_orders(fleet: Fleet) -> None:
    worker = fleet.worker
    assert "try sudo" in refused(worker, "nobody", FLEETCTL, "pause")
    told = worker.run([FLEETCTL, "pause", "--for", "10m", "--reason", "disk swap"], user="oncall").stdout
    assert told.startswith("Paused for 10 min")
    fleet.wait("the pause", lambda s: [hold.kind for hold in s.holds] == ["pause"])
    assert "PAUSE, " in try_as(worker, "nobody", FLEETCTL, "status").stdout.splitlines()[0]
    journal = worker.journalctl("-u", "fleetd", "-o", "cat")
    assert "ordered by oncall: Pause for_seconds 600 reason disk swap" in journal
    assert "ordered by oncall: Paused for 10 min (disk swap)" in worker.run([FLEETCTL, "history", "--json"]).stdout
    assert "no profile" in refused(worker, "oncall", FLEETCTL, "set", "nonsense", "1")
    worker.run([FLEETCTL, "resume"], user="oncall")
    fleet.wait("the end of the pause", lambda s: not s.holds)


def test_an_order_by_sudo_says_who_is_behind_it(fleet: Fleet) -> None:
    """logind knows the login by the control group alone, which is all that a sudo leaves as it was."""
    worker, told = fleet.worker, []
    worker.start("systemd-logind")
    worker.run(["loginctl", "enable-linger", "oncall"])
    uid = worker.run(["id", "-u", "oncall"]).stdout.strip()
    for place in (f"--slice=user-{uid}.slice", "--slice=system.slice"):
        worker.run(["systemd-run", "--quiet", "--wait", "--pipe", place, FLEETCTL, "pause", "--reason", "disk swap"])
        fleet.wait("the pause", lambda s: [hold.kind for hold in s.holds] == ["pause"])
        told.append(fleet.status().holds[0].sentence.partition(":")[0])
        worker.run([FLEETCTL, "resume"])
        fleet.wait("the end of the pause", lambda s: not s.holds)
    worker.stop("systemd-logind")
    assert told == ["paused by root (sudo oncall)", "paused by root"]


def test_who_serves_the_scheduler_queue_is_named_though_its_proc_is_hidden(fleet: Fleet) -> None:
    pid = fleet.worker.unit("mastodon-sidekiq.service").main_pid
    served = f"served by process {pid} (mastodon-sidekiq.service) on worker1"
    fleet.wait("the stock unit", lambda s: s.scheduler.sentence.startswith(served))


def test_fleetctl_watches_a_restart_to_its_end(fleet: Fleet) -> None:
    fleet.wait("an instance that serves", lambda s: any(i.state == "serving" for i in s.instances))
    restart = [FLEETCTL, "restart", "local"]
    done = fleet.worker.run(restart, user="oncall", timeout=4 * PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("restart: 1 of 1 instance; ")


def test_a_member_of_the_group_may_reload(fleet: Fleet) -> None:
    assert "denied" in refused(fleet.worker, "nobody", *RELOAD)
    fleet.configure(CONFIG.replace("[pace]", "[targets]\npull = 77\n[pace]"))
    fleet.worker.run(RELOAD, user="oncall")
    fleet.wait("the new target", lambda s: [q.target_seconds for q in s.queues if q.name == "pull"] == [77])
    # Rights over fleetd are no rights over systemd.
    refused(fleet.worker, "oncall", "systemctl", "stop", "mastodon-sidekiq@1")
    fleet.configure(CONFIG)
    fleet.worker.run(RELOAD)


def test_fleetd_may_start_quiet_and_stop_its_own(fleet: Fleet) -> None:
    worker = fleet.worker
    worker.run(["systemctl", "start", "mastodon-sidekiq@3"], user="fleetd")
    assert worker.unit("mastodon-sidekiq@3").active
    worker.run(["systemctl", "kill", "--kill-who=main", "--signal=TSTP", "mastodon-sidekiq@3"], user="fleetd")
    worker.run(["systemctl", "stop", "mastodon-sidekiq@3"], user="fleetd")
    assert not worker.unit("mastodon-sidekiq@3").active
    worker.run(["systemctl", "reset-failed", "mastodon-sidekiq@3"], user="fleetd", check=False)


@pytest.mark.parametrize("unit", OTHERS)
@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "reload"])
def test_fleetd_may_touch_no_other_units(fleet: Fleet, verb: str, unit: str) -> None:
    before = what_runs(fleet.worker)
    why = refused(fleet.worker, "fleetd", "systemctl", verb, unit)
    assert "denied" in why or (unit == OTHERS[2] and "not loaded" in why)
    assert what_runs(fleet.worker) == before


def test_fleetd_may_touch_no_number_that_no_configuration_can_have(fleet: Fleet) -> None:
    """polkit itself refuses them, though they run: a zero, zeros in front, too many digits, no number."""
    worker = fleet.worker
    others = [f"mastodon-sidekiq@{number}.service" for number in ("0", "00", "01", "0001", "10000", "1x", "-1")]
    ours = "mastodon-sidekiq@9999.service"
    for unit in (*others, ours):
        worker.write(f"/etc/systemd/system/{unit}", "[Service]\n")
        worker.write(f"/etc/systemd/system/{unit}.d/zz.conf", OTHER.replace("Exec", "ExecStart=\nExec"))
    worker.reload_systemd()
    worker.run(["systemctl", "start", *others, ours])
    processes = {unit: worker.unit(unit).main_pid for unit in others}
    for verb in ("start", "restart", "reset-failed", "kill", "stop"):
        for unit in others:
            assert "denied" in refused(worker, "fleetd", "systemctl", verb, unit), (verb, unit)
        worker.run(["systemctl", verb, ours], user="fleetd")
    assert {unit: worker.unit(unit).main_pid for unit in others} == processes
    worker.run(["systemctl", "stop", *others, ours])
    for unit in (*others, ours):
        worker.remove(f"/etc/systemd/system/{unit}")
        worker.remove(f"/etc/systemd/system/{unit}.d")
    worker.reload_systemd()


@pytest.mark.parametrize(
    "command",
    [
        ["systemctl", "set-property", "--runtime", "mastodon-sidekiq@1", "CPUWeight=7"],
        ["systemd-run", "--unit=mastodon-sidekiq@9", "true"],
        ["systemctl", "enable", "mastodon-sidekiq@2"],
        ["systemctl", "mask", "--runtime", "mastodon-sidekiq@2"],
        ["systemctl", "edit", "--runtime", "--full", "mastodon-sidekiq@1"],
        ["systemctl", "daemon-reload"],
        ["systemctl", "set-environment", "SIDEKIQ_ARGS=-q scheduler"],
        ["systemctl", "reboot"],
        ["systemctl", "isolate", "rescue.target"],
        ["systemctl", "freeze", "mastodon-sidekiq@1"],
        ["sh", "-c", "echo >> /var/lib/mastodon-sidekiq/1.env"],
        ["sh", "-c", "rm -f /var/lib/mastodon-sidekiq/1.env && ! test -e /var/lib/mastodon-sidekiq/1.env"],
        ["touch", "/var/lib/mastodon-sidekiq/2.env.new"],
        ["sh", "-c", "echo >> /etc/fleetd/fleetd.toml"],
        ["cat", "/home/mastodon/live/.env.production"],
    ],
    ids=" ".join,
)
def test_fleetd_can_do_no_more(fleet: Fleet, command: list[str]) -> None:
    before = what_runs(fleet.worker)
    refused(fleet.worker, "fleetd", *command)
    assert what_runs(fleet.worker) == before
    assert fleet.worker.running


def test_the_journal_has_fields(fleet: Fleet) -> None:
    free = min({1, 2, 3, 4} - fleet.up())
    fleet.worker.run([FLEETCTL, "set", "local", str(len(fleet.up()) + 1)])
    fleet.wait("one more", lambda s: free in {i.number for i in s.instances if i.state == "serving"})
    fleet.worker.run([FLEETCTL, "set", "local", "auto"])
    lines = fleet.worker.journalctl("-u", "fleetd", "-o", "json").splitlines()
    [*_, last] = [entry for entry in map(json.loads, lines) if entry.get("FLEETD_STEP") == "start"]
    assert last["FLEETD_UNIT"] == f"mastodon-sidekiq@{free}.service"
    assert last["MESSAGE"].startswith(f"start mastodon-sidekiq@{free}.service: ")
    assert (last["PRIORITY"], last["SYSLOG_IDENTIFIER"], last["_TRANSPORT"]) == ("6", "fleetd", "journal")


def test_the_log_level_can_be_set_by_root(fleet: Fleet) -> None:
    fleet.worker.run(["systemctl", "service-log-level", "fleetd", "err"])
    try:
        assert log_level(fleet) == "err"
        told = len(fleet.said())
        reload_and_wait(fleet, target=78)
        assert not [line.message for line in fleet.said()[told:] if "read again" in line.message]
    finally:
        fleet.worker.run(["systemctl", "service-log-level", "fleetd", "info"])
    reload_and_wait(fleet, target=79)
    assert "configuration read again" in [line.message for line in fleet.said()[told:]]


def reload_and_wait(fleet: Fleet, target: int) -> None:
    fleet.configure(CONFIG.replace("[pace]", f"[targets]\npull = {target}\n[pace]"))
    fleet.worker.run(RELOAD)
    fleet.wait("reloaded", lambda s: [q.target_seconds for q in s.queues if q.name == "pull"] == [target])


def test_the_metrics_are_well_formed(fleet: Fleet) -> None:
    load.enqueue(fleet.main, "default", [0.1] * 5, load.Load(phases=(), password=REDIS_PASSWORD))
    metrics = fleet.worker.run(["curl", "-sf", "http://127.0.0.1:9849/metrics"]).stdout
    assert 'fleetd_queue_latency_seconds{queue="default"}' in metrics
    assert 'fleetd_source_up{source="redis"} 1.0' in metrics
    checked = fleet.worker.run(["promtool", "check", "metrics"], stdin=metrics, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_daemon_is_confined(fleet: Fleet) -> None:
    shown = fleet.worker.run(["systemd-analyze", "security", "--no-pager", "fleetd"]).stdout
    score = shown.rpartition("Overall exposure level for fleetd.service: ")[2].split()[0]
    assert float(score) <= 1.0
    limits = fleet.worker.read(f"/proc/{fleet.worker.unit('fleetd').main_pid}/limits")
    assert [line.split()[-3:-1] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]


def test_what_others_read_of_fleetds_files_is_readable_and_no_more(fleet: Fleet) -> None:
    wanted = {
        "/var/lib/fleetd": "751",
        "/var/lib/fleetd/history.sqlite": "644",
        "/var/lib/fleetd/host.json": "600",
        "/run/fleetd": "755",
        "/run/fleetd/boot": "644",
    }
    shown = fleet.worker.run(["stat", "--format=%n %a %U", *wanted]).stdout.splitlines()
    assert shown == [f"{path} {mode} fleetd" for path, mode in wanted.items()]


@pytest.mark.parametrize("user", ["fleetd", "root"])
def test_a_second_daemon_refuses(fleet: Fleet, user: str) -> None:
    before = fleet.worker.unit("fleetd")
    as_service = ["systemd-run", "--quiet", "--wait", "--pipe", f"--property=User={user}"]
    credential = ["--property=LoadCredential=mastodon.env:/run/fleetd-render/mastodon.env"]
    done = try_as(fleet.worker, None, *as_service, *credential, "/opt/fleetd/bin/fleetd")
    sentence = done.stdout + done.stderr
    assert done.returncode == 1
    expected = {
        "fleetd": f"another fleetd runs on this host (pid {before.main_pid})",
        "root": "systemctl start fleetd",
    }
    assert expected[user] in sentence
    assert "Traceback" not in sentence
    after = fleet.worker.unit("fleetd")
    assert (after.main_pid, after.restarts) == (before.main_pid, before.restarts)
    assert fleet.status().host == "worker1"


def test_no_secret_is_ever_shown(fleet: Fleet) -> None:
    """At log level debug, with right and wrong passwords, and with a password in a configuration that is refused."""
    worker = fleet.worker
    worker.run(["systemctl", "service-log-level", "fleetd", "debug"])
    bad = CONFIG + '[redis]\nurl = "redis://:horse-in-the-config@main:6379/zero"\nbogus = "horse-in-the-config"\n'
    fleet.configure(bad)
    assert "bogus" in try_as(worker, None, *RELOAD).stderr
    shown = try_as(worker, None, FLEETCTL, "check-config", "/etc/fleetd/fleetd.toml").stdout
    everything = [shown, *said_everywhere(fleet)]
    fleet.configure(CONFIG + '[log]\nlevel = "debug"\n')
    wrong = {"REDIS_URL": "redis://:wrong-horse-redis@main:6379/0", "DB_PASS": "wrong-horse-database"}
    mastodon.write_settings(worker, {**mastodon.environment("main", boot_seconds=0.5), **wrong})
    worker.restart("fleetd")
    fleet.wait("both refuse", lambda s: {x.name for x in s.sources if not x.ok} == {"redis", "postgres"})
    everything += said_everywhere(fleet)
    for secret in SECRETS:
        for place, text in enumerate(everything):
            assert secret not in text, (place, next(line for line in text.splitlines() if secret in line))
    assert "password" in everything[-1]  # the mistake is still reported


def said_everywhere(fleet: Fleet) -> list[str]:
    """Everything that fleetd's programs logged, keep, show or were started with."""
    host = fleet.worker
    found = [host.run(["curl", "-s", f"http://127.0.0.1:9849/{path}"]).stdout for path in ("metrics", "healthz", "")]
    for unit in ("fleetd", "fleetd-render"):
        found.append(try_as(host, None, "systemctl", "status", "--full", "--no-pager", unit).stdout)
        found.append(host.run(["systemctl", "show", unit]).stdout)
    kept = "cat /var/lib/mastodon-sidekiq/* /var/lib/fleetd/* | tr -c '[:print:]\\n' '?'"  # one is binary
    found.append(host.run(["sh", "-c", kept]).stdout)
    found.append(host.run([FLEETCTL, "history", "--since", "1d", "--json"]).stdout)
    found.append(host.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout)
    found.append(try_as(host, None, FLEETCTL, "status").stdout)
    found.append(host.run([FLEETCTL, "status", "--json"]).stdout)
    found.append(host.journalctl("-o", "export"))
    return found
