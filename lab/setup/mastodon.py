"""Mastodon on a host: the stand-in app in /home/mastodon/live, its user, its settings, and what runs it."""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.hosts import disk
from lab.hosts.host import Host
from lab.setup import services

LIVE = "/home/mastodon/live"
RUNS = f"{LIVE}/log/runs.jsonl"
LIFE = f"{LIVE}/log/life.jsonl"
LET_GO = f"{LIVE}/log/let-go"
QUEUES = ("default", "push", "ingress", "mailers", "pull", "scheduler", "fasp")
STOCK_UNIT = "mastodon-sidekiq.service"

_APP = Path(__file__).with_name("app")
_USER_ID = 1791  # free on almost any Debian: people's ids start at 1000
PROGRAM = "/usr/bin/sidekiq -r ./app.rb"


def environment(
    main: str, *, boot_seconds: float = 3.0, cron_seconds: float = 10.0, redis_password: str = "", port: int = 5432
) -> dict[str, str]:
    """The `.env.production` of a Mastodon with its Redis and database on the host `main`."""
    settings = {
        "LOCAL_DOMAIN": "mastodon.lab",
        "REDIS_HOST": main,
        "REDIS_PORT": "6379",
        "DB_HOST": main,
        "DB_PORT": str(port),
        "DB_NAME": services.DATABASE,
        "DB_USER": "mastodon",
        "DB_PASS": services.DB_PASSWORD,
        "RAILS_LOG_LEVEL": "warn",
        "LAB_BOOT_SECONDS": f"{boot_seconds:g}",
        "LAB_CRON_SECONDS": f"{cron_seconds:g}",
    }
    if redis_password:
        settings["REDIS_PASSWORD"] = redis_password
    if port == 6432:
        settings["PREPARED_STATEMENTS"] = "false"  # as Mastodon's documentation says for PgBouncer
    return settings


def by_sentinels(settings: Mapping[str, str], sentinels: Sequence[str]) -> dict[str, str]:
    """The same settings, with a Redis that these Sentinels name. `sentinels`: names or addresses of their hosts."""
    kept = {name: value for name, value in settings.items() if name not in ("REDIS_HOST", "REDIS_PORT")}
    listed = ",".join(f"{host}:{services.SENTINEL_PORT}" for host in sentinels)
    return {**kept, "REDIS_SENTINEL_MASTER": services.SENTINEL_MASTER, "REDIS_SENTINELS": listed}


def install(host: Host, settings: Mapping[str, str]) -> None:
    """Install the user mastodon, the app and its `.env.production` on a host."""
    _add_user(host)
    live = host.disk / LIVE.lstrip("/")
    shutil.rmtree(live, ignore_errors=True)
    shutil.copytree(_APP, live, ignore=shutil.ignore_patterns("*.service"))
    (live / "log").mkdir()
    for library in (host.disk / "usr/lib").glob("*/libjemalloc.so.2"):  # admins install libjemalloc-dev
        with contextlib.suppress(FileExistsError):
            library.with_name("libjemalloc.so").symlink_to(library.name)
    uid, gid = disk.account(host.disk, "mastodon")
    for folder, _, files in os.walk(live.parent):
        for path in [Path(folder), *(Path(folder) / name for name in files)]:
            os.chown(path, uid, gid)
    write_settings(host, settings)


def write_settings(host: Host, settings: Mapping[str, str]) -> None:
    """Write `.env.production`. Running processes keep what they were started with."""
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    host.write(f"{LIVE}/.env.production", text, mode=0o640, owner="mastodon")


def upgrade(host: Host, version: str, *, gems_missing: bool = True) -> None:
    """Change the code on disk under running processes, as `git checkout` of another version does.

    With `gems_missing` the new code needs a gem that is not installed. Then boots fail at once until `install_gems`.
    """
    major, minor, patch = version.split(".")
    source = (_APP / "lib/mastodon/version.rb").read_text()
    for name, number in (("major", major), ("minor", minor), ("patch", patch)):
        source = re.sub(rf"(def {name}\n +)[0-9]+", rf"\g<1>{number}", source)
    host.write(f"{LIVE}/lib/mastodon/version.rb", source, owner="mastodon")
    if gems_missing:
        locked = (_APP / "Gemfile.lock").read_text().replace("    rails (8.0.3)", f"    rails (8.0.3.{version})")
        host.write(f"{LIVE}/Gemfile.lock", locked, owner="mastodon")


def install_gems(host: Host) -> None:
    """Install what Gemfile.lock needs, as `bundle install` does. Then the code boots again."""
    locked = host.read(f"{LIVE}/Gemfile.lock").splitlines()
    installed = "".join(f"{line.strip()}\n" for line in locked if line.startswith("    "))
    host.write(f"{LIVE}/vendor/installed", installed, owner="mastodon")


def let_go(host: Host) -> None:
    """Until `hold`, end at once all present and future jobs that would take half a minute or more."""
    host.write(LET_GO, "")


def hold(host: Host) -> None:
    """Undo `let_go`, so that long jobs take their time again."""
    host.remove(LET_GO)


def run_with_stand_in(host: Host, unit: str) -> None:
    """Make a unit of Mastodon's run the stand-in, by a drop-in that changes only the program's path."""
    arguments = "-c 25" if unit == STOCK_UNIT else "$SIDEKIQ_ARGS"
    host.write(
        f"/etc/systemd/system/{unit}.d/50-lab.conf",
        f"# The lab has no rbenv: Debian's sidekiq, loading the stand-in app.\n"
        f"[Service]\nExecStart=\nExecStart={PROGRAM} {arguments}\n",
    )


def install_stock_unit(host: Host, *, enable: bool = True) -> None:
    """Install upstream's unit, whose process serves all queues, including `scheduler`."""
    host.write(f"/etc/systemd/system/{STOCK_UNIT}", (_APP / STOCK_UNIT).read_text())
    run_with_stand_in(host, STOCK_UNIT)
    if enable:
        host.enable(STOCK_UNIT)


def write_instance(host: Host, name: str, arguments: str, pool: int, extra: Mapping[str, str] | None = None) -> None:
    """Write the settings of `mastodon-sidekiq@NAME` by hand, for tests without fleetd-render."""
    settings = {"SIDEKIQ_ARGS": arguments, "DB_POOL": str(pool), **(extra or {})}
    text = "".join(f'{key}="{value}"\n' for key, value in settings.items())
    host.write(f"/var/lib/mastodon-sidekiq/{name}.env", text)


def _add_user(host: Host) -> None:
    etc = host.disk / "etc"
    if any(line.startswith("mastodon:") for line in (etc / "passwd").read_text().splitlines()):
        return
    lines = {
        "passwd": f"mastodon:x:{_USER_ID}:{_USER_ID}:Mastodon:/home/mastodon:/bin/bash",
        "group": f"mastodon:x:{_USER_ID}:",
        "shadow": "mastodon:!:19000::::::",
    }
    for name, line in lines.items():
        with (etc / name).open("a") as file:
            file.write(f"{line}\n")
