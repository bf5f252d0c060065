"""Units of this host that run Mastodon, as systemd knows them: Sidekiq, web and streaming, with what each is set to.

fleetd's own workers' units are among them, marked. What is kept of a unit's environment is numbers only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from fleetd.adapters.mastodon.sidekiq_command import SidekiqCommand, runs_sidekiq, sidekiq_command, works_in
from fleetd.adapters.mastodon.unit_environment import environment_of, file_of, read_environment_file
from fleetd.core.model.bounds import whole
from fleetd.core.model.facts import Value
from fleetd.core.model.worker_settings import SETTINGS_DIRECTORY

_PATTERNS = ("*mastodon*.service", "*sidekiq*.service")
_PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,User,WorkingDirectory,ExecStart,Environment,EnvironmentFiles,ControlGroup"
)
_EXEC_START = re.compile(r"\{ path=(/[^;]*?) ; argv\[\]=(.*) ; ignore_errors=")
_STREAMING = re.compile(r"\bnode\b.*\bstreaming\b")
_UP = ("active", "activating", "reloading")
#: More units of Mastodon's no host has.
UNITS_MAX = 200
#: The variables that say how many connections a program opens.
SIZES = ("DB_POOL", "MAX_THREADS", "WEB_CONCURRENCY", "STREAMING_CLUSTER_NUM")


class MastodonService(Value, frozen=True, kw_only=True):
    """One unit. `sizes`: of SIZES, what the unit itself sets."""

    name: str
    runs: Literal["sidekiq", "web", "streaming"]
    active: bool
    enabled: bool
    user: str = ""
    directory: str = ""  # "": it does not say
    sidekiq: SidekiqCommand | None = None
    sizes: dict[str, int] = {}
    control_group: str = ""
    fleetds: bool = False  # rendered by fleetd, or a copy of its unit

    @property
    def template(self) -> str:
        """What several instances have in common: mastodon-sidekiq-push@ of mastodon-sidekiq-push@2.service."""
        head, at, _ = self.name.removesuffix(".service").partition("@")
        return head + at


def mastodon_services(
    ask: Callable[..., str | None], read: Callable[[str, str], str | None], also: Iterable[str] = ()
) -> tuple[MastodonService, ...] | None:
    """Asked of systemd; None: it does not answer. `ask`: systemctl. `read`: the text of a file for a user; None:
    that user can't read it. `also`: unit files whose names do not show what they are, templates among them."""
    patterns = (*_PATTERNS, *(unit.replace("@.", "@*.") for unit in also))
    loaded = ask("list-units", "--all", "--plain", "--no-legend", "--type=service", *patterns)
    on_disk = ask("list-unit-files", "--plain", "--no-legend", "--type=service", *patterns)
    if loaded is None and on_disk is None:
        return None
    names = [line.split()[0] for line in f"{loaded or ''}\n{on_disk or ''}".splitlines() if line.strip()]
    units = [name for name in dict.fromkeys(names) if not name.endswith("@.service")][:UNITS_MAX]
    shown = ask("show", f"--property={_PROPERTIES}", *units) if units else ""
    if shown is None:
        return None
    found = (_service(block, read) for block in re.split(r"\n\s*\n", shown))
    return tuple(service for service in found if service is not None)


def _service(block: str, read: Callable[[str, str], str | None]) -> MastodonService | None:
    lines = [(name, value) for name, _, value in (line.partition("=") for line in block.splitlines())]
    properties = dict(lines)
    if properties.get("LoadState") != "loaded":
        return None
    environment = environment_of(properties.get("Environment", ""))
    files = [file_of(value)[0] for name, value in lines if name == "EnvironmentFiles" and value]
    for path in files:
        environment |= read_environment_file(read(path, properties.get("User", "")) or "")
    for value in (value for name, value in lines if name == "ExecStart"):
        if (start := _EXEC_START.search(value)) is None:
            continue
        path, arguments = start[1], start[2]
        runs = _what_runs(arguments)
        if runs is None:
            continue
        return MastodonService(
            name=properties.get("Id", ""),
            runs=runs,
            active=properties.get("ActiveState") in _UP,
            enabled=properties.get("UnitFileState", "").startswith("enabled"),
            user=properties.get("User", ""),
            directory=works_in(arguments, properties.get("WorkingDirectory", "")),
            sidekiq=sidekiq_command(path, arguments, environment) if runs == "sidekiq" else None,
            sizes=dict(_sizes(environment)),
            control_group=properties.get("ControlGroup", ""),
            fleetds="SIDEKIQ_ARGS" in arguments and any(path.startswith(f"{SETTINGS_DIRECTORY}/") for path in files),
        )
    return None


def _what_runs(arguments: str) -> Literal["sidekiq", "web", "streaming"] | None:
    if runs_sidekiq(arguments):
        return "sidekiq"
    if re.search(r"(?<![\w-])puma(?![\w-])", arguments):
        return "web"
    return "streaming" if _STREAMING.search(arguments) else None


def _sizes(environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    for name in SIZES:
        number = whole(environment.get(name), "threads")
        if number is not None:
            yield name, number
