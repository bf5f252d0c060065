"""The configuration file as one frozen value, or every problem in it at once.

The file is small and read at start and on reload; a bad one is refused whole, so nothing runs on half a change.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import platform
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, Literal

from fleetd.config.access_tables import (
    File,
    HistorySection,
    LogSection,
    MastodonSection,
    NetworkSection,
    StateSection,
)
from fleetd.config.connections import (
    PostgresSettings,
    RedisSettings,
    pgbouncer_settings,
    postgres_settings,
    redis_settings,
)
from fleetd.config.cross_checks import build_policy
from fleetd.config.toml_reader import section, show
from fleetd.core.model.facts import UnitRule, Value
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.unit_rules.command import start_faults
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.words.plain import plain
from fleetd.words.units import WHY

#: More than any real file has; a slip such as `--config /dev/zero` ends here.
FILE_BYTES_MAX = 1024 * 1024
#: fleetd's user and group.
_FLEETD = "fleetd"


class HttpAddress(Value, frozen=True, kw_only=True):
    """Where the read-only HTTP side listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Settings(Value, frozen=True, kw_only=True):
    """Everything the configuration says."""

    policy: Policy
    redis: RedisSettings | None  # None: as Mastodon's own settings say
    postgres: PostgresSettings | None  # None: likewise
    pgbouncer: PostgresSettings | None  # its console; None: likewise
    replica: PostgresSettings | None  # None: likewise
    ledger: Literal["redis", "local"]  # what hosts share; local: this is the only host
    through: Literal["auto", "postgres", "pgbouncer"]  # what the workers connect to
    watch_replica: bool  # where there is one
    network: NetworkSection
    mastodon: MastodonSection
    directory: str  # where Mastodon's code is
    http: HttpAddress | None  # None: off
    log: LogSection
    state: StateSection
    history: HistorySection
    profiles_without_min: tuple[str, ...]  # whose min is the default
    warnings: tuple[str, ...]  # sentences: nothing is refused for these

    @property
    def units_directory(self) -> str | None:
        """Where the workers' units have to work; None: an env_file by a name of its own says nothing of that."""
        named = self.mastodon.directory is not None or self.mastodon.env_file.endswith("/.env.production")
        return self.directory if named else None


def load(path: str | Path) -> Settings:
    """The settings in the file; raises ConfigError with every problem in it."""
    file = Path(path)
    try:
        with open(file, "rb", opener=_at_once) as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except PermissionError as error:
        cure = "Only root and fleetd may read it, since it may hold passwords: use sudo."
        problem = unreadable(file) if _is_fleetds() else ConfigProblem("", f"can't be read: {error.strerror}", cure)
        raise ConfigError(str(path), [problem]) from None
    except OSError as error:
        cure = "Write a first one with `sudo fleetctl init`, or name another file."
        raise ConfigError(str(path), [ConfigProblem("", f"can't be read: {error.strerror}", cure)]) from None
    if len(content) > FILE_BYTES_MAX:
        problem = ConfigProblem("", "larger than 1 MiB", "Name a configuration file.")
        raise ConfigError(str(path), [problem])
    try:
        text = content.decode("utf-8-sig")  # some editors put a byte order mark in front
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = ConfigProblem("", f"line {line} is not UTF-8", "Save the file as UTF-8.")
        raise ConfigError(str(path), [problem]) from None
    return parse(text, str(path))


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a FIFO that nobody writes to is empty, and holds up no daemon (law 7)."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)  # a pipe that somebody writes to is read to its end
    return descriptor


def rights_line(file: str | Path) -> str:
    """The line that gives a configuration the rights that it is to have."""
    named = shlex.quote(str(file))
    return f"sudo chgrp {_FLEETD} {named} && sudo chmod 0640 {named}"


def unreadable(file: str | Path) -> ConfigProblem:
    """The problem of a file that is there, but has not the rights with which fleetd reads it."""
    return ConfigProblem("", f"user {_FLEETD} may not read it", f"Run: {rights_line(file)}")


def _is_fleetds() -> bool:
    """Whether we are in the group that is to read the configuration, as fleetd itself is."""
    try:
        return grp.getgrnam(_FLEETD).gr_gid in {os.getegid(), *os.getgroups()}
    except KeyError:
        return False


def parse(text: str, file: str = "fleetd.toml", *, machine_host: str | None = None) -> Settings:
    """The settings in a TOML text. `machine_host`: instead of this machine's host name.

    Raises ConfigError with every problem, each with key path, value (never a secret's) and cure.
    """
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # also of numbers with thousands of digits
        cure = "Correct that line; texts need quotes, tables look like [redis]."
        raise ConfigError(file, [ConfigProblem("", f"not TOML: {plain(str(error))}", cure)]) from None
    except RecursionError:
        raise ConfigError(file, [ConfigProblem("", "nested too deeply", "Use plain tables.")]) from None
    problems: list[ConfigProblem] = []
    settings = _settings(table, machine_host or platform.node(), problems)
    if problems:
        raise ConfigError(file, problems)
    return settings


def _settings(table: dict[str, Any], machine_host: str, problems: list[ConfigProblem]) -> Settings:
    contents = section(File, table, "", problems)
    policy, warnings = build_policy(contents, machine_host, problems)
    return Settings(
        policy=policy,
        redis=redis_settings(contents.redis, problems),
        postgres=postgres_settings(contents.postgres, problems),
        pgbouncer=pgbouncer_settings(contents.pgbouncer, problems),
        replica=postgres_settings(contents.replica, problems, "replica"),
        ledger=contents.fleet.ledger,
        through=contents.connections.through,
        watch_replica=contents.connections.replica == "auto",
        network=_network(contents.network, problems),
        mastodon=_mastodon(contents.mastodon, problems),
        directory=_directory(contents.mastodon),
        http=_http_address(contents.http.listen, problems),
        log=contents.log,
        state=contents.state,
        history=contents.history,
        profiles_without_min=tuple(name for name, p in contents.profiles.items() if p.min is None),
        warnings=warnings,
    )


def _mastodon(mastodon: MastodonSection, problems: list[ConfigProblem]) -> MastodonSection:
    """As it is: what the units rendered from it would be refused for is refused here."""
    rules = dict.fromkeys(start_faults(f"{mastodon.exec} $SIDEKIQ_ARGS")) if mastodon.exec is not None else {}
    for rule in rules:
        cure = 'Name the program and `exec sidekiq`, e.g. "/usr/local/bin/bundle exec sidekiq"; fleetd adds the rest.'
        problems.append(ConfigProblem("mastodon.exec", f"with {show(mastodon.exec)} {WHY[rule]}", cure))
    if mastodon.user in {"root", "0"}:
        problems.append(
            ConfigProblem("mastodon.user", WHY[UnitRule.USER], "Name the user that Mastodon's files belong to.")
        )
    return mastodon


def _directory(mastodon: MastodonSection) -> str:
    """By default where .env.production is, because Mastodon reads it from its own directory."""
    return str(Path(mastodon.directory or Path(mastodon.env_file or MastodonSection().env_file).parent))


def _network(network: NetworkSection, problems: list[ConfigProblem]) -> NetworkSection:
    for entry in network.private:
        if "/" in entry:
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError:
                cure = 'Write addresses, host names, or networks such as "10.8.0.0/24".'
                problems.append(ConfigProblem("network.private", f"{show(entry)} is not a network", cure))
    return network


def _http_address(listen: str, problems: list[ConfigProblem]) -> HttpAddress | None:
    if not listen:
        return None
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", listen)
    if match is None or not 1 <= int(match[3]) <= 65_535:
        cure = 'Write "ADDRESS:PORT", e.g. "127.0.0.1:9849" or "[::1]:9849"; "" turns it off.'
        problems.append(ConfigProblem("http.listen", f"{show(listen)} is not an address with a port", cure))
        return None
    return HttpAddress(host=match[1] or match[2], port=int(match[3]))
