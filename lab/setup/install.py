"""fleetd on a host: its programs in /opt/fleetd, its units as units/install.sh puts them, its user.

Everything is from `source`: this project, or an earlier release of it.

The environment is built once for each state of the source, with the machine's own /usr/bin/python3. It is built in a
mount namespace where it is already at /opt/fleetd, because programs of a Python environment contain their own path.
The dependencies are a separate layer, so that a change of the source takes only seconds.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.hosts.host import Host
from lab.setup import cache

PROJECT = Path(__file__).resolve().parents[2]
HOME = "/opt/fleetd"
LOCK = "requirements.lock"
#: What fleetd is built from.
_SOURCE = ("pyproject.toml", "requirements.lock", "src", "README.md", "units", "config.example.toml")
#: By version, the commit that was tagged: tags do not come with every clone.
RELEASES = {
    "0.1.0": "39dfb0c0df7137425e877fb0b177b892ad269d45",
    "0.2.0": "45ace86676caa79d9099ab95d9a0d584fd7537ff",
}
PYTHON = "/usr/bin/python3"  # the one on a developer's PATH may be in a home directory, which units don't see


def install(host: Host) -> None:
    """Install fleetd from this project's current source. The host may be running or not. Starts nothing."""
    place_programs(host)
    place_units(host)
    if host.running:
        host.run(["systemd-sysusers", "fleetd.conf"])
        host.run(["systemd-tmpfiles", "--create", "fleetd.conf"])
        host.reload_systemd()
        host.run(["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig"])


def place_programs(host: Host, source: Path = PROJECT) -> None:
    """Copy fleetd's environment to a host's /opt/fleetd."""
    target = host.disk / HOME.lstrip("/")
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sh(["cp", "-a", str(environment(source)), str(target)], "copy fleetd's programs")
    target.chmod(0o755)


def place_units(host: Host, source: Path = PROJECT) -> None:
    """Install units, policies, the user and directories with the source's own script."""
    _sh(["sh", str(source / "units/install.sh"), str(host.disk)], "install fleetd's units")
    host.on_disk("systemd-sysusers", "fleetd.conf")
    host.on_disk("systemd-tmpfiles", "--create", "fleetd.conf")


def environment(source: Path = PROJECT) -> Path:
    """The environment with fleetd from `source`. Takes about 2 s after a change of it."""
    state = cache.digest(*_contents(source))
    base = cache.digest((source / LOCK).read_bytes(), _sh([PYTHON, "-VV"], "ask for Python's version"))
    itself = f"{_pip()} --no-deps --no-index --no-build-isolation ."

    def build(folder: Path) -> None:
        _at_home(folder, source, f"cp -a '{_dependencies(base, source)}/.' {HOME}/ && {itself}")

    return cache.once(f"fleetd-{cache.digest(state, base)}", build)


def release(version: str) -> Path:
    """The source of an earlier release, from the history of this checkout. Raises LabError if that is not there."""
    commit = RELEASES[version]
    git = ["git", "-C", str(PROJECT), "-c", f"safe.directory={PROJECT}", "archive", commit]

    def extract(folder: Path) -> None:
        _sh([*git, "--output", f"{folder}.tar"], f"get {version}, commit {commit[:12]}, from git (a shallow clone?)")
        _sh(["tar", "--extract", "--directory", str(folder), "--file", f"{folder}.tar"], f"extract {version}")
        Path(f"{folder}.tar").unlink()

    return cache.once(f"source-{commit[:16]}", extract)


def wheels() -> Path:
    """A directory with every package of the lock file, for hosts that install for themselves and have no network."""
    locked = [
        str(PROJECT / ".venv/bin/python"),
        "-I",
        "-m",
        "pip",
        "download",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]

    def build(folder: Path) -> None:
        _sh([*locked, "--quiet", "-r", str(PROJECT / LOCK), "-d", str(folder)], "fetch fleetd's packages", timeout=600)

    return cache.once(f"wheels-{cache.digest((PROJECT / LOCK).read_bytes())}", build)


def place_source(host: Host, folder: str, source: Path = PROJECT) -> None:
    """Copy a source to a host, as far as it is needed to install it there."""
    target = host.disk / folder.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    for name in (*_SOURCE, "Makefile", "scripts", "requirements-dev.lock"):
        place = source / name
        if place.is_dir():
            shutil.copytree(place, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(place, target / name)


def _dependencies(base: str, source: Path) -> Path:
    locked = f"{_pip()} --require-hashes --only-binary :all: -r {LOCK}"

    def build(folder: Path) -> None:
        _at_home(folder, source, f"{PYTHON} -m venv {HOME} && {locked}")

    return cache.once(f"dependencies-{base}", build)


def _pip() -> str:
    return f"{HOME}/bin/python -I -m pip install --quiet --disable-pip-version-check --root-user-action=ignore"


def _at_home(folder: Path, source: Path, script: str) -> None:
    """Run a script in a copy of the source, with `folder` at /opt/fleetd for this script only."""
    # /opt/fleetd need not exist on this machine, and is not touched if it does: /opt gets a temporary overlay. The
    # folder may be hidden by that, so it is reached through a descriptor.
    mounts = (
        'exec 4<"$1"; mount -t tmpfs tmpfs "$3"; mkdir "$3/upper" "$3/work" "$3/source"; '
        'mount -t overlay -o "lowerdir=/opt,upperdir=$3/upper,workdir=$3/work" overlay /opt; '
        f"mkdir -p {HOME}; mount --bind /proc/self/fd/4 {HOME}"
    )
    copy = f'for name in {" ".join(_SOURCE)}; do cp -R "$2/$name" "$3/source/"; done; cd "$3/source"'
    scratch = folder.with_name(f"{folder.name}.source")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        unshare = ["unshare", "--mount", "--", "sh", "-ec", f"{mounts}\n{copy}\n{script}", "sh"]
        _sh([*unshare, str(folder), str(source), str(scratch)], "build fleetd's environment", timeout=600)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _contents(source: Path) -> Iterator[str | bytes]:
    yield (source / "pyproject.toml").read_bytes()
    for path in sorted([*(source / "src").rglob("*"), *(source / "units").iterdir(), source / "config.example.toml"]):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(source))
            yield path.read_bytes()


def _sh(command: list[str], what: str, timeout: float = 60) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, env=clean)
    if done.returncode != 0:
        raise LabError(f"Could not {what}: {(done.stderr or done.stdout).strip()[-3000:]}")
    return done.stdout
