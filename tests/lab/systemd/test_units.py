"""The pitfalls of worker units, tested with real systemd, polkit and Sidekiq and the project's own unit files."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from lab import Host
from lab.topologies import TwoHosts
from lab.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.lab

CONFIG = '[profiles.default-first]\ninstances = "1-3"\nmin = 1\nthreads = 5\n[scheduler]\nplace = "here"\n'
SETTINGS = "/var/lib/mastodon-sidekiq"
ENV_FILE = "/home/mastodon/live/.env.production"
FOUND = "/var/lib/fleetd/pooler.json"
DROPIN = "/run/systemd/system/{}.service.d/99-test.conf"


@pytest.fixture
def worker(two_hosts: TwoHosts) -> Iterator[Host]:
    """The worker VM with rendered settings of three instances and a scheduler. Restored after the test."""
    host = two_hosts.worker
    env_file = host.read(ENV_FILE)
    host.run(["mkdir", "-p", "/var/lib/fleetd"])
    host.write(FOUND, '{"kind": "none", "takes_names": true, "place": "main:5432"}\n')  # as fleetd leaves it
    render(host, CONFIG)
    yield host
    host.write(ENV_FILE, env_file, mode=0o640, owner="mastodon")
    host.remove("/home/mastodon/live/.env.local")
    render(host, CONFIG)
    for path in ("fleetd", "mastodon-sidekiq@", "mastodon-sidekiq@7", "mastodon-sidekiq@8", "mastodon-sidekiq@9"):
        host.remove(DROPIN.format(path))
    host.run(["systemctl", "stop", "fleetd", "mastodon-sidekiq.target", "mastodon-sidekiq*.service"])
    host.run(["sh", "-c", f"rm -f {SETTINGS}/* /etc/fleetd/fleetd.toml"])
    host.remove("/etc/systemd/system/mastodon-workers-boot.target.wants")
    host.remove(FOUND)
    host.reload_systemd()


def render(host: Host, config: str) -> str:
    """Write the configuration and have fleetd-render.service render it. Returns its journal."""
    host.write("/etc/fleetd/fleetd.toml", config)
    host.restart("fleetd-render")
    return host.journal("fleetd-render", 20)


def override(host: Host, unit: str, *lines: str) -> None:
    host.write(DROPIN.format(unit), "\n".join(["[Service]", *lines]) + "\n")
    host.reload_systemd()


def attempt(host: Host, *command: str, user: str | None = None) -> bool:
    """Whether a command succeeded."""
    return host.run(command, user=user, check=False).returncode == 0


def heartbeats(host: Host) -> dict[str, set[str]]:
    """Every process that has a heartbeat: tag to queues."""
    members = host.run(["redis-cli", "-h", "main", "smembers", "processes"]).stdout.split()
    infos = [host.run(["redis-cli", "-h", "main", "hget", member, "info"]).stdout for member in members]
    return {info["tag"]: set(info["queues"]) for info in map(json.loads, filter(str.strip, infos))}


def environment(host: Host, pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    lines = host.run(["cat", f"/proc/{pid}/environ"]).stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_worker_runs_with_what_was_rendered(worker: Host) -> None:
    worker.start("mastodon-sidekiq@2")
    worker.start("mastodon-sidekiq-scheduler")
    worker.wait_until("both are in Redis", lambda: len(heartbeats(worker)) == 2)
    by_number = {tag.split(":")[2]: queues for tag, queues in heartbeats(worker).items()}
    assert by_number == {
        "2": {"default", "push", "ingress", "mailers", "pull", "fasp"},
        "scheduler": {"scheduler"},
    }
    variables = environment(worker, worker.unit("mastodon-sidekiq@2").main_pid)
    assert variables["DB_POOL"] == "7"
    assert variables["FLEETD_PROFILE"] == "default-first"
    assert variables["PGOPTIONS"] == "-c application_name=mastodon-sidekiq@2.worker1"
    assert variables["RAILS_ENV"] == "production"


def test_a_number_that_is_not_rendered_fails_at_once_and_starts_once_it_is(worker: Host) -> None:
    """If settings were optional it would serve all queues. With Restart= alone it would use up its starts."""
    for _ in range(3):
        assert not attempt(worker, "systemctl", "start", "mastodon-sidekiq@7")
    assert worker.unit("mastodon-sidekiq@7").restarts == 0
    worker.write(f"{SETTINGS}/7.env", worker.read(f"{SETTINGS}/1.env"))
    worker.start("mastodon-sidekiq@7")
    assert worker.unit("mastodon-sidekiq@7").active


def test_a_restart_without_settings_ends_and_a_start_with_them_works(worker: Host) -> None:
    override(worker, "mastodon-sidekiq@7", "RestartSec=100ms")
    text = worker.read(f"{SETTINGS}/1.env")
    worker.write(f"{SETTINGS}/7.env", text)
    worker.start("mastodon-sidekiq@7")
    worker.remove(f"{SETTINGS}/7.env")
    worker.kill("mastodon-sidekiq@7")
    worker.wait_until("it has ended", lambda: worker.unit("mastodon-sidekiq@7").active_state in ("inactive", "failed"))
    worker.write(f"{SETTINGS}/7.env", text)
    worker.start("mastodon-sidekiq@7")


def test_emptied_settings_start_nothing(worker: Host) -> None:
    """Law 1: without -q Sidekiq serves every queue."""
    worker.write(f"{SETTINGS}/7.env", 'SIDEKIQ_ARGS=""\n')
    assert not attempt(worker, "systemctl", "start", "mastodon-sidekiq@7")
    worker.stop("mastodon-sidekiq@7")
    assert heartbeats(worker) == {}


def test_the_template_cannot_start_a_second_scheduler(worker: Host) -> None:
    """Law 1: mastodon-sidekiq@scheduler would find scheduler.env."""
    assert not attempt(worker, "systemctl", "start", "mastodon-sidekiq@scheduler")
    worker.stop("mastodon-sidekiq@scheduler")
    assert heartbeats(worker) == {}


def test_a_worker_that_dies_comes_back_and_one_that_dies_at_once_is_given_up(worker: Host) -> None:
    override(worker, "mastodon-sidekiq@8", "RestartSec=100ms")
    worker.write(f"{SETTINGS}/8.env", worker.read(f"{SETTINGS}/1.env"))
    worker.start("mastodon-sidekiq@8")
    before = worker.unit("mastodon-sidekiq@8").main_pid
    worker.kill("mastodon-sidekiq@8")
    worker.wait_until("it is back", lambda: worker.unit("mastodon-sidekiq@8").main_pid not in (0, before))
    worker.write(f"{SETTINGS}/8.env", 'SIDEKIQ_ARGS="--nonsense"\n')
    worker.kill("mastodon-sidekiq@8")
    worker.wait_until(
        "it is given up",
        lambda: worker.unit("mastodon-sidekiq@8").active_state == "failed",
        2 * PATIENCE_SECONDS,
    )
    assert "Start request repeated too quickly" in worker.journal("mastodon-sidekiq@8")
    worker.write(f"{SETTINGS}/8.env", worker.read(f"{SETTINGS}/1.env"))
    worker.run(["systemctl", "reset-failed", "mastodon-sidekiq@8"])
    worker.start("mastodon-sidekiq@8")


def test_the_real_limits_give_up_after_six_tries_in_half_a_minute(worker: Host) -> None:
    """From then on systemd reports the cause of the last try. Only its journal says that the limit was hit."""
    unit = "mastodon-sidekiq@9"
    override(worker, unit, "ExecStart=", "ExecStart=/bin/sh -c 'echo it boots; exit 1'")
    worker.write(f"{SETTINGS}/9.env", worker.read(f"{SETTINGS}/1.env"))
    assert not attempt(worker, "systemctl", "start", unit)
    worker.wait_until("it is given up", lambda: worker.unit(unit).active_state == "failed")
    tries = [
        int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        for entry in map(json.loads, worker.journalctl("-u", unit, "-o", "json").splitlines())
        if entry["MESSAGE"] == "it boots"
    ]
    # Half a minute, plus what this machine needs for the tries themselves.
    assert all(5 <= later - earlier < 10 for earlier, later in pairwise(tries)), tries
    assert (worker.unit(unit).restarts, worker.unit(unit).result) == (6, "protocol")
    assert worker.journal(unit).count("it boots") == 6
    assert not attempt(worker, "systemctl", "start", unit), "refused until the interval is over"
    assert worker.journal(unit).count("Start request repeated too quickly") == 2
    assert worker.journal(unit).count("it boots") == 6
    assert worker.unit(unit).result == "protocol"
    worker.run(["systemctl", "reset-failed", unit])
    worker.remove(DROPIN.format(unit))
    worker.reload_systemd()
    worker.start(unit)


def test_a_stop_signals_the_main_process_and_no_child(worker: Host) -> None:
    """ffmpeg must not die under a job that still has its 25 s."""
    log = "/home/mastodon/live/log"
    child = f'trap "touch {log}/got-term" TERM; echo $$$$ > {log}/child; while :; do sleep 0.1; done'
    override(worker, "mastodon-sidekiq@7", f"ExecStartPost=/bin/sh -c 'setsid sh -c '\\''{child}'\\'' &'")
    worker.write(f"{SETTINGS}/7.env", worker.read(f"{SETTINGS}/1.env"))
    worker.start("mastodon-sidekiq@7")
    written = worker.path(f"{log}/child")
    worker.wait_until("the child is there", lambda: written.exists() and written.read_text().endswith("\n"))
    pid = written.read_text().strip()
    group = worker.unit("mastodon-sidekiq@7").properties["ControlGroup"]
    assert pid in worker.run(["cat", f"/sys/fs/cgroup{group}/cgroup.procs"]).stdout.split()
    worker.stop("mastodon-sidekiq@7")
    assert not worker.path(f"{log}/got-term").exists()
    assert not worker.path(f"/proc/{pid}").exists()  # killed only at the end, with the unit


def test_systemd_has_the_settings_against_the_other_pitfalls(worker: Host) -> None:
    """For pitfalls that can't be tried here: an OOM kill needs the memory controller, and starving takes minutes."""
    for unit in ("mastodon-sidekiq@1", "mastodon-sidekiq-scheduler"):
        worker.start(unit)
        has = worker.unit(unit).properties
        assert (has["OOMPolicy"], has["WatchdogUSec"], has["KillMode"]) == ("continue", "0", "mixed")
        assert (has["TimeoutStartUSec"], has["TimeoutStopUSec"]) == ("10min", "1min")


def test_stopping_the_target_stops_all_and_starting_it_starts_min(worker: Host) -> None:
    worker.start("mastodon-sidekiq.target")
    worker.start("mastodon-sidekiq@3")
    every = {"mastodon-sidekiq@1.service", "mastodon-sidekiq@3.service", "mastodon-sidekiq-scheduler.service"}
    assert set(worker.units("mastodon-sidekiq*.service")) == every
    worker.stop("mastodon-sidekiq.target")
    worker.wait_until("all are down", lambda: not worker.units("mastodon-sidekiq*.service"))
    worker.start("mastodon-sidekiq.target")
    assert set(worker.units("mastodon-sidekiq*.service")) == every - {"mastodon-sidekiq@3.service"}


def test_a_boot_with_a_broken_configuration_starts_min_from_the_last_good_one(worker: Host) -> None:
    """Law 5: workers outlive fleetd."""
    worker.enable("mastodon-sidekiq.target")
    worker.write("/etc/fleetd/fleetd.toml", "[profiles.default-first]\ninstances = 'x'\n[nonsense]\n")
    try:
        worker.reboot()
        assert "fleetd-render.service" in worker.failed_units()
        assert "nonsense: no such key" in worker.journal("fleetd-render")
        up = {"mastodon-sidekiq@1.service", "mastodon-sidekiq-scheduler.service"}
        assert set(worker.units("mastodon-sidekiq*.service")) == up
        assert all(worker.unit(unit).active for unit in up)
    finally:
        worker.on_disk("systemctl", "--quiet", "disable", "mastodon-sidekiq.target")


def test_a_running_instance_keeps_its_settings_when_its_number_is_removed(worker: Host) -> None:
    worker.start("mastodon-sidekiq@3")
    said = render(worker, CONFIG.replace('"1-3"', "[1]"))
    assert "mastodon-sidekiq@3 is no longer configured but runs" in said
    assert worker.path(f"{SETTINGS}/3.env").exists()
    assert not worker.path(f"{SETTINGS}/2.env").exists()
    worker.stop("mastodon-sidekiq@3")
    render(worker, CONFIG.replace('"1-3"', "[1]"))
    assert not worker.path(f"{SETTINGS}/3.env").exists()


def stand_in_for_fleetd(worker: Host) -> None:
    """fleetd.service with a shell as its program, which reports the credential that it got."""
    script = "cat $CREDENTIALS_DIRECTORY/mastodon.env > /run/fleetd/credential; systemd-notify --ready; sleep infinity"
    override(worker, "fleetd", "NotifyAccess=all", "ExecStart=", f"ExecStart=/bin/sh -c '{script}'")


def credential(worker: Host) -> EnvFile:
    """Without what the unit and the stamp add."""
    given = credential_with_all(worker)
    assert (given.user, given.unit_problem) == ("mastodon", "")
    assert dict(given.environment)["RAILS_ENV"] == "production"
    return structs.replace(given, environment=(), user="", version="")


def credential_with_all(worker: Host) -> EnvFile:
    worker.restart("fleetd")
    return msgspec.json.decode(worker.read("/run/fleetd/credential"), type=EnvFile)


#: What an admin may write in a drop-in, or set by hand.
ENVIRONMENT = r"""
Environment=DB_USER=plain DB_PORT=5432
Environment="DB_PASS=p 1 \"q\" $x `y` 100%% it's \\ \x41 #"
Environment='REDIS_PASSWORD=a\nb'
Environment=REDIS_HOST= A=b=c
EnvironmentFile=/etc/default/mastodon
EnvironmentFile=-/etc/default/none
"""
ENVIRONMENT_FILE = r"""# comment \
DB_NAME=not this
; DB_NAME=nor this
DB_NAME='name # 1' # x
DB_USER=  from file 1 \
  2
DB_HOST="a \"b\" \n \$c" 'd'
REDIS_DB=p#1
REDIS_PORT = 6380
export REDIS_USER=x
"""


def test_fleetd_knows_what_the_workers_unit_sets_as_the_worker_has_it(worker: Host) -> None:
    stand_in_for_fleetd(worker)
    worker.write("/etc/default/mastodon", ENVIRONMENT_FILE, mode=0o644)
    worker.write("/home/mastodon/live/.env.local", "LOCAL=1\n", mode=0o640, owner="mastodon")
    dump = "ExecStart=/bin/sh -c 'env -0 > /home/mastodon/live/log/env; systemd-notify --ready; sleep 60'"
    override(worker, "mastodon-sidekiq@", *ENVIRONMENT.splitlines(), "NotifyAccess=all", "ExecStart=", dump)
    given = credential_with_all(worker)
    assert given.unit_problem == ""
    assert given.beside == ((".env.local", "LOCAL=1\n"),)
    assert given.version == read_version(worker)
    worker.start("mastodon-sidekiq@1")
    real = dict(pair.split("=", 1) for pair in worker.read("/home/mastodon/live/log/env").split("\0") if pair)
    ours = dict(given.environment)
    assert ours == {name: value for name, value in real.items() if name in ours}
    names = {name for name in real if name.startswith(("DB_", "REDIS_"))} - {"DB_POOL"}
    assert names <= ours.keys()
    assert {"DB_PASS", "DB_NAME", "DB_USER", "DB_HOST", "REDIS_DB", "REDIS_PASSWORD"} <= names


def read_version(worker: Host) -> str:
    """As the stamp has it."""
    version = msgspec.json.decode(worker.read(f"{SETTINGS}/code.json"))["version"]
    assert isinstance(version, str)
    assert version
    return version


def test_fleetd_gets_mastodons_settings_and_starts_without_them(worker: Host) -> None:
    stand_in_for_fleetd(worker)
    assert credential(worker) == EnvFile(path=ENV_FILE, text=worker.read(ENV_FILE))
    assert not attempt(worker, "cat", ENV_FILE, user="fleetd")
    worker.remove(ENV_FILE)
    assert credential(worker) == EnvFile(path=ENV_FILE, why="there is no such file", missing=True)
    worker.write("/srv/mine.env", "REDIS_HOST=elsewhere\n", mode=0o600, owner="mastodon")
    render(worker, CONFIG + '[mastodon]\nenv_file = "/srv/mine.env"\n')
    assert credential(worker) == EnvFile(path="/srv/mine.env", text="REDIS_HOST=elsewhere\n")


def manager(worker: Host, *call: str) -> bool:
    """Whether systemd does this on behalf of the user fleetd."""
    target = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    return attempt(worker, "busctl", "call", *target, *call, user="fleetd")


def test_polkit_lets_fleetd_act_on_its_own_units_only(worker: Host) -> None:
    own, foreign = "mastodon-sidekiq@1.service", "cron.service"
    for unit in (own, "mastodon-sidekiq-scheduler.service"):
        assert manager(worker, "StartUnit", "ss", unit, "replace")
        wait_for_job(worker, lambda unit=unit: worker.unit(unit).active)  # type: ignore[misc]
        assert manager(worker, "KillUnit", "ssi", unit, "main", "20")
        assert manager(worker, "StopUnit", "ss", unit, "replace")
        wait_for_job(worker, lambda unit=unit: not worker.unit(unit).active)  # type: ignore[misc]
    for unit in (
        foreign,
        "mastodon-sidekiq@scheduler.service",
        "mastodon-sidekiq.target",
        "mastodon-web.service",
    ):
        assert not manager(worker, "StartUnit", "ss", unit, "replace")
        assert not manager(worker, "StopUnit", "ss", unit, "replace")
    assert not manager(worker, "SetUnitProperties", "sba(sv)", own, "true", "0")
    assert not manager(worker, "EnableUnitFiles", "asbb", "1", own, "false", "false")
    assert not manager(worker, "Reload")


def wait_for_job(worker: Host, done: Callable[[], bool]) -> None:
    worker.wait_until("the job is done", done)
