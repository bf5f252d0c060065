"""What a worker is started with: the text of its environment file, its digest and its tag.

Law 1 is kept here too: every instance gets an explicit `-q`, so Sidekiq never falls back to Mastodon's own list of
queues, which includes `scheduler`. Root (fleetd-render) writes the file; fleetd can only read it.

Format: systemd's EnvironmentFile (systemd.exec(5)), one NAME="value" per line, which a shell reads the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

from msgspec import structs

from fleetd.core.model.facts import RenderedSettings, Value
from fleetd.core.model.identity import (
    NUMBER_MAX,
    SCHEDULER,
    InstanceKey,
    WorkerTag,
    application_name,
    key_text,
    parse_tag,
    unit_name,
)
from fleetd.core.model.policy_tables import Policy, Profile, SchedulerPolicy

#: Sidekiq's `-t`: how long a stopping process lets jobs finish before it pushes them back. TimeoutStopSec of the units
#: is longer, for Sidekiq's 3 s to push jobs back and for Mastodon's exit hooks (law 4).
SHUTDOWN_SECONDS = 25
#: Where root writes the settings.
SETTINGS_DIRECTORY = "/var/lib/mastodon-sidekiq"
#: What these files set. Whoever sets one of them later sets it for good.
SETTINGS_NAMES = ("SIDEKIQ_ARGS", "DB_POOL", "FLEETD_PROFILE", "PGOPTIONS", "MASTODON_PROMETHEUS_EXPORTER_PORT")
#: FLEETD_PROFILE of the scheduler's settings; the configuration gives no profile this name.
SCHEDULER_PROFILE = "scheduler"
_PORT_MAX = 65_535


class ExporterPorts(Value, frozen=True, kw_only=True):
    """The ports of Mastodon's Prometheus exporter, one for each process of this host. The web's is `base`."""

    base: int  # 1 to 65535
    taken: frozenset[int] = frozenset()

    def of(self, key: InstanceKey) -> int:
        """@N has base + N, the scheduler base + 10000; below base where that is no port. It stays the same."""
        offset = key if key != SCHEDULER else NUMBER_MAX + 1
        port = self._at(offset)
        return port if port not in self.taken else self._at(offset + NUMBER_MAX + 1)

    def _at(self, offset: int) -> int:
        return self.base + offset if self.base + offset <= _PORT_MAX else self.base - offset


class WorkerSettings(Value, frozen=True, kw_only=True):
    """One environment file."""

    key: InstanceKey
    tag: str
    digest: str
    text: str


def settings_file_name(key: InstanceKey) -> str:
    """The environment file that the unit names."""
    return f"{key_text(key)}.env"


@lru_cache(maxsize=256)  # every tick asks for each instance that runs
def instance_digest(profile: Profile) -> str:
    """The digest of what an instance of this profile runs with.

    The names of the profile and of the connections are left out: a new name is no reason to replace an instance.
    """
    return _digest(_arguments(_queue_arguments(profile), profile.threads), profile.db_pool)


@lru_cache(maxsize=8)
def scheduler_digest(scheduler: SchedulerPolicy) -> str:
    """The digest of what the scheduler runs with."""
    return _digest(_arguments([("-q", q) for q in scheduler.queues], scheduler.threads), scheduler.db_pool)


def instance_settings(
    policy: Policy,
    profile: Profile,
    key: InstanceKey,
    *,
    name_connections: bool,
    exporter: ExporterPorts | None = None,
) -> WorkerSettings:
    """The settings of one instance of the profile."""
    arguments = _arguments(_queue_arguments(profile), profile.threads)
    settings = _settings(policy.host, key, arguments, profile.db_pool, profile.name, name_connections)
    return _with_exporter(settings, exporter)


def scheduler_settings(
    policy: Policy, *, name_connections: bool, exporter: ExporterPorts | None = None
) -> WorkerSettings:
    """The settings of mastodon-sidekiq-scheduler."""
    scheduler = policy.scheduler
    arguments = _arguments([("-q", queue) for queue in scheduler.queues], scheduler.threads)
    settings = _settings(policy.host, SCHEDULER, arguments, scheduler.db_pool, SCHEDULER_PROFILE, name_connections)
    return _with_exporter(settings, exporter)


def all_settings(
    policy: Policy, *, name_connections: bool, exporter: ExporterPorts | None = None
) -> tuple[WorkerSettings, ...]:
    """Every environment file of this host, the scheduler's last. `exporter`: None: Mastodon starts none.

    The scheduler's is there even where `place = "elsewhere"`: an admin may order it here by hand.
    """
    instances = (
        instance_settings(policy, profile, key, name_connections=name_connections, exporter=exporter)
        for profile in policy.profiles
        for key in profile.numbers
    )
    return (*instances, scheduler_settings(policy, name_connections=name_connections, exporter=exporter))


def not_rendered(
    policy: Policy, rendered: Mapping[InstanceKey, RenderedSettings], *, name_connections: bool
) -> tuple[InstanceKey, ...]:
    """The units of this host that have no settings, or others than this policy gives them."""
    wanted = {s.key: s.digest for s in all_settings(policy, name_connections=name_connections)}
    return tuple(key for key, digest in wanted.items() if key not in rendered or rendered[key].digest != digest)


def min_numbers(policy: Policy) -> tuple[InstanceKey, ...]:
    """The instances that a boot of the host starts even without fleetd: each profile's lowest `min` numbers (law 5)."""
    return tuple(n for profile in policy.profiles for n in profile.numbers[: profile.min_instances])


def read_rendered(key: InstanceKey, text: str) -> RenderedSettings | None:
    """What an environment file says about its unit; None when it isn't one that was rendered for it."""
    values = parse_settings(text)
    words = values.get("SIDEKIQ_ARGS", "").split()
    tag = next((parse_tag(word) for option, word in pairwise(words) if option == "-g"), None)
    if tag is None or tag.key != key or "FLEETD_PROFILE" not in values:
        return None
    threads = next((n for option, word in pairwise(words) if option == "-c" and (n := _threads(word))), 0)
    return RenderedSettings(profile=values["FLEETD_PROFILE"], digest=tag.digest, threads=threads, db_pool=tag.db_pool)


def _threads(word: str) -> int:
    """0: it is none that fleetd-render would write."""
    return int(word) if word.isascii() and word.isdecimal() and len(word) <= 3 else 0


def parse_settings(text: str) -> dict[str, str]:
    """Names and values of a rendered file; only what `_line` writes is understood, anything else is skipped."""
    values = {}
    for line in text.splitlines():
        name, separator, quoted = line.partition("=")
        if separator and len(quoted) >= 2 and quoted[0] == quoted[-1] == '"' and not name.startswith("#"):
            values[name] = quoted[1:-1]
    return values


def _queue_arguments(profile: Profile) -> list[tuple[str, str]]:
    weighted = profile.order == "weighted"
    # Any `,WEIGHT`, even `,1`, makes Sidekiq use random order; without weights it uses strict order.
    return [("-q", f"{queue},{weight}" if weighted else queue) for queue, weight in profile.queues]


def _arguments(queues: list[tuple[str, str]], threads: int) -> str:
    options = [*queues, ("-c", str(threads)), ("-t", str(SHUTDOWN_SECONDS))]
    return " ".join(f"{option} {value}" for option, value in options)


def _digest(arguments: str, db_pool: int) -> str:
    return hashlib.sha256(f"{arguments}\n{db_pool}\n".encode()).hexdigest()[:8]


def _settings(
    host: str, key: InstanceKey, arguments: str, db_pool: int, profile: str, name_connections: bool
) -> WorkerSettings:
    digest = _digest(arguments, db_pool)
    tag = str(WorkerTag(host=host, key=key, db_pool=db_pool, digest=digest))
    lines = [
        f"# {unit_name(key)}: written by fleetd-render. Changes here are lost: edit /etc/fleetd/fleetd.toml,",
        "# then: systemctl reload fleetd",
        _line("SIDEKIQ_ARGS", f"{arguments} -g {tag}"),
        _line("DB_POOL", str(db_pool)),
        _line("FLEETD_PROFILE", profile),
    ]
    if name_connections:
        # Mastodon sets an empty application_name; this overrides it, so that our connections can be counted.
        lines.append(_line("PGOPTIONS", f"-c application_name={application_name(key, host)}"))
    return WorkerSettings(key=key, tag=tag, digest=digest, text="\n".join(lines) + "\n")


def _with_exporter(settings: WorkerSettings, exporter: ExporterPorts | None) -> WorkerSettings:
    """The port is no part of the digest: only a start that follows needs it."""
    if exporter is None:
        return settings
    port = _line("MASTODON_PROMETHEUS_EXPORTER_PORT", str(exporter.of(settings.key)))
    return structs.replace(settings, text=f"{settings.text}{port}\n")


def _line(name: str, value: str) -> str:
    """One line. Raises ValueError for a character with a meaning to systemd; the configuration refuses those before."""
    if any(character in "\"\\$`%'" or not character.isprintable() for character in value):
        raise ValueError(f"{name} holds a character that an environment file can't")
    return f'{name}="{value}"'
