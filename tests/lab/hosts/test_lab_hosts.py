"""The lab itself: hosts are separate from each other, and nothing outlives the program that made them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Host, Lab, LabError
from lab.hosts import cgroups, holder
from lab.hosts.host import BOOT_SECONDS
from lab.topologies import TwoHosts
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.lab.conftest import LabFactory
from tests.support.project import PROJECT

pytestmark = pytest.mark.lab


def test_a_host_is_separate_from_this_machine(two_hosts: TwoHosts) -> None:
    main, worker = two_hosts.main, two_hosts.worker
    for host in (main, worker):
        assert host.run(["systemctl", "is-system-running"]).stdout.strip() == "running"
        assert host.run(["hostname"]).stdout.strip() == host.name
        assert host.run(["cat", "/proc/1/cgroup"]).stdout.strip().splitlines()[-1].startswith("0::/init.scope")
    ids = {host.read("/etc/machine-id") for host in (main, worker)} | {Path("/etc/machine-id").read_text()}
    assert len(ids) == 3
    assert main.run(["redis-cli", "-h", "main", "ping"]).stdout.strip() == "PONG"
    assert worker.unit("redis-server").load_state == "masked"


def test_same_named_units_of_two_hosts_are_two_units(two_hosts: TwoHosts) -> None:
    unit = "[Service]\nExecStart=/bin/sleep infinity\n"
    hosts = (two_hosts.main, two_hosts.worker)
    for host in hosts:
        host.write("/run/systemd/system/same@.service", unit)
        host.reload_systemd()
        host.start("same@1")
    pid = two_hosts.worker.unit("same@1").main_pid
    two_hosts.main.stop("same@1")
    after = two_hosts.worker.unit("same@1")
    assert (after.active, after.main_pid) == (True, pid)
    two_hosts.worker.stop("same@1")


def answers(host: Host, seconds: str = "60") -> bool:
    """Whether the Redis of `main` answers a host within this many seconds."""
    ping = ["timeout", seconds, "redis-cli", "-h", "main", "ping"]
    return host.run(ping, check=False).stdout.strip() == "PONG"


def test_cut_and_join(two_hosts: TwoHosts) -> None:
    assert answers(two_hosts.worker)
    two_hosts.worker.cut()
    assert not answers(two_hosts.worker, "2")
    assert answers(two_hosts.main)
    two_hosts.worker.join()
    assert answers(two_hosts.worker)


def test_freeze_and_thaw(two_hosts: TwoHosts) -> None:
    assert answers(two_hosts.worker)
    two_hosts.main.freeze()
    try:
        assert not answers(two_hosts.worker, "0.5")
    finally:
        two_hosts.main.thaw()
    assert answers(two_hosts.worker)


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_reboot_keeps_the_disk(lab_factory: LabFactory, power_cut: bool) -> None:
    host = lab_factory().add_host("alone")
    host.write(
        "/etc/systemd/system/kept.service",
        "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n",
    )
    host.enable("kept")
    host.boot()
    boot_id = host.read("/proc/sys/kernel/random/boot_id")
    host.write("/var/lib/note", "still here", mode=0o600)
    for volatile in ("/run/note", "/tmp/note"):
        host.write(volatile, "gone")
    host.reboot(power_cut=power_cut)
    assert host.read("/var/lib/note") == "still here"
    assert not host.path("/run/note").exists()
    assert not host.path("/tmp/note").exists()
    assert host.unit("kept").active
    assert host.read("/proc/sys/kernel/random/boot_id") != boot_id


def test_commands_have_deadlines_and_failures_say_where(two_hosts: TwoHosts) -> None:
    worker: Host = two_hosts.worker
    with pytest.raises(LabError, match=r"worker1: `false` failed with exit code 1"):
        worker.run(["false"])
    with pytest.raises(LabError, match=r"worker1: `sleep 321` did not end within 0\.2 s"):
        worker.run(["sleep", "321"], timeout=0.2)
    worker.wait_until("the sleep is gone", lambda: worker.run(["pgrep", "-f", "sleep 321"], check=False).stdout == "")
    assert worker.run(["id", "-un"], user="mastodon").stdout.strip() == "mastodon"
    assert worker.run(["sh", "-c", "echo $WORD; cat"], env={"WORD": "a"}, stdin="b").stdout == "a\nb"


def test_what_a_host_writes_stays_off_this_machine(two_hosts: TwoHosts) -> None:
    two_hosts.worker.run(["sh", "-c", "echo x > /etc/fleetd-lab-was-here; echo x > /tmp/fleetd-lab-was-here"])
    assert not Path("/etc/fleetd-lab-was-here").exists()
    assert not Path("/tmp/fleetd-lab-was-here").exists()
    refused = two_hosts.worker.run(["sh", "-c", "echo 0 > /proc/sys/kernel/printk"], check=False)
    assert refused.returncode != 0


def test_a_lab_runs_on_a_machine_with_systemd_and_only_cgroup2(lab_factory: LabFactory) -> None:
    machine = lab_factory().add_host("laptop")  # a host of the lab is such a machine
    machine.boot()
    shutil.copytree(PROJECT / "lab", machine.path("/opt/project/lab"))
    script = (
        "from lab import Lab\n"
        "with Lab() as lab:\n"
        "    host = lab.add_host('inside')\n"
        "    lab.boot()\n"
        "    print(host.run(['systemctl', 'is-system-running']).stdout)\n"
    )
    shown = machine.run(
        ["/usr/bin/python3", "-c", script], env={"PYTHONPATH": "/opt/project"}, timeout=2 * BOOT_SECONDS
    )
    assert shown.stdout.strip() == "running"
    assert machine.failed_units() == []
    assert not list(machine.path("/sys/fs/cgroup").glob("fleetd-lab-*"))


LEAVES = """
import os, signal, sys
from lab import Lab
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
with Lab(sys.argv[1]) as lab:
    host = lab.add_host("victim")
    lab.boot()
    print(host.pid, lab.inner, flush=True)
    if sys.argv[2] == "raise":
        raise ValueError
    if sys.argv[2] == "keep":
        lab.keep()
    elif sys.argv[2] == "wait":
        signal.pause()
"""


def leave(name: str, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LEAVES, name, how],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def gone(name: str, pid: int) -> bool:
    return not (Path(f"/proc/{pid}").exists() or cgroups.of_lab(name).exists() or (holder.STATE / name).exists())


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT", "raise", "normal"])
def test_nothing_outlives_its_program(end: str) -> None:
    name = f"ends-{end.lower()}-{os.getpid()}"
    with leave(name, "wait" if end.startswith("SIG") else end) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[0])
        if end.startswith("SIG"):
            process.send_signal(signal.Signals[end])
        try:
            process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # leaving the block waits for it
            raise
    wait_until(f"lab {name} is gone", lambda: gone(name, pid))


def test_a_killed_holder_takes_the_hosts_with_it_and_the_next_lab_sweeps() -> None:
    name = f"ends-holder-{os.getpid()}"
    with leave(name, "wait") as process:
        assert process.stdout is not None
        pid, inner = map(int, process.stdout.readline().split())
        unshare = Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[1]
        holder_pid = int(Path(f"/proc/{unshare}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(holder_pid, signal.SIGKILL)
        wait_until("the host died", lambda: not Path(f"/proc/{pid}").exists())
        process.kill()
    with Lab():
        assert gone(name, pid)


def test_a_kept_lab_lives_on_until_it_is_ended() -> None:
    name = f"kept-{os.getpid()}"
    python = [sys.executable, "-m", "lab"]
    with leave(name, "keep") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[0])
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    try:
        with Lab():  # does not sweep a lab that lives
            entered = [*python, "enter", "victim", "--lab", name, "--", "systemctl", "is-system-running"]
            shown = subprocess.run(
                entered, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
            )
            assert shown.stdout.strip() == "running"
    finally:
        subprocess.run(
            [*python, "down", name],
            cwd=PROJECT,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )
    assert gone(name, pid)


def test_without_root_there_is_an_error() -> None:
    script = "import os\nfrom lab import Lab\nos.setuid(65534)\nLab().__enter__()"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert "needs root: run it with sudo" in done.stderr
