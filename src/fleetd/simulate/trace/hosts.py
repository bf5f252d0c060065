"""The hosts of a trace: what each has, when it is lost, frozen or cut off, and the policy of its fleetd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, structs

from fleetd.config.access_tables import Section
from fleetd.config.toml_reader import join, nearest
from fleetd.core.model.policy_tables import INSTANCES_MAX, Policy, Profile
from fleetd.errors import ConfigProblem
from fleetd.simulate.trace.bounds import BYTES_MAX, At, shape

#: Each host costs as much time as a trace of one.
HOSTS_MAX = 16
OUTAGES_MAX = 100

HostName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
        extra_json_schema={"description": "1 to 64 letters, digits, dots, dashes or underscores"},
    ),
]
Outage = Annotated[tuple[At, At], shape("[from, until], in seconds from 0 s on", "[4000, 4300]")]
Outages = Annotated[tuple[Outage, ...], Meta(max_length=OUTAGES_MAX, examples=["[[4000, 4300]]"])]
Kind = Literal["lost", "frozen", "cut_off"]
KINDS: tuple[Kind, ...] = ("lost", "frozen", "cut_off")


class HostProfile(Section, frozen=True, kw_only=True):
    """A profile on one host. None: as the profile itself says."""

    instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] | None = None
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None


class HostTable(Section, frozen=True, kw_only=True):
    """One host of the fleet."""

    name: HostName
    cores: Annotated[int, Meta(ge=1, le=1024)] = 4
    memory_bytes: Annotated[float, Meta(ge=1e6, le=BYTES_MAX)] | None = None  # None: that of [host]
    place: Literal["auto", "here", "elsewhere"] = "auto"
    initial_instances: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None  # None: the trace's
    profiles: dict[str, HostProfile] = {}  # none: all of them
    lost: Outages = ()  # without power; until: it boots then
    frozen: Outages = ()  # all of it stands still, but its clock
    cut_off: Outages = ()  # it does not reach Redis


class HostOutage(NamedTuple):
    """A time in which a host is lost, frozen or cut off, and where the file says so."""

    at: float
    until: float
    kind: Kind
    path: str


def outages_of(host: HostTable, path: str = "") -> list[HostOutage]:
    """In the order of their times."""
    return sorted(
        HostOutage(at, until, kind, f"{path}.{kind}[{index}]")
        for kind in KINDS
        for index, (at, until) in enumerate(getattr(host, kind))
    )


def host_problems(hosts: tuple[HostTable, ...], end_seconds: float) -> Iterator[ConfigProblem]:
    """What is wrong with the hosts, whatever profiles there are."""
    if len(hosts) > HOSTS_MAX:
        yield ConfigProblem("hosts", f"{len(hosts)} hosts", f"Use at most {HOSTS_MAX}.")
    named: dict[str, int] = {}
    for index, host in enumerate(hosts):
        path = f"hosts[{index}]"
        first = named.setdefault(host.name, index)
        if first != index:
            what = f"hosts[{first}] is called {host.name} as well"
            yield ConfigProblem(f"{path}.name", what, "Give each host a name of its own.")
        yield from _outage_problems(outages_of(host, path), end_seconds)


def _outage_problems(outages: list[HostOutage], end_seconds: float) -> Iterator[ConfigProblem]:
    for outage in outages:
        if outage.until - outage.at < 1:
            what = f"it lasts from {outage.at:g} s until {outage.until:g} s"
            yield ConfigProblem(outage.path, what, "Write [from, until], at least 1 s apart.")
        elif outage.at >= end_seconds:
            what = f"{outage.at:g} s is not before the end of the trace ({end_seconds:g} s)"
            yield ConfigProblem(outage.path, what, "Move it, or make the trace longer.")
    for earlier, later in pairwise(outages):
        if later.at < earlier.until:
            what = f"begins at {later.at:g} s, within {earlier.path} (until {earlier.until:g} s)"
            yield ConfigProblem(later.path, what, "Let one end before the next begins.")


def profile_problems(
    hosts: tuple[HostTable, ...], profiles: tuple[Profile, ...], initial_instances: int
) -> Iterator[ConfigProblem]:
    """Where the hosts do not fit the profiles of the trace, or of the configuration."""
    known = {profile.name: profile for profile in profiles}
    for index, host in enumerate(hosts):
        path = f"hosts[{index}].profiles"
        for name, own in host.profiles.items():
            if name not in known:
                meant = nearest(name, known)
                cure = f"Did you mean {meant}?" if meant else f"There are: {', '.join(known)}."
                yield ConfigProblem(join(path, name), "no such profile", cure)
            elif own.instances is not None and own.instances > known[name].max_instances:
                what = f"{own.instances} is more than the profile's {known[name].max_instances}"
                yield ConfigProblem(join(path, name) + ".instances", what, "Lower it, or raise the profile's.")
        initial = initial_instances if host.initial_instances is None else host.initial_instances
        for profile in _profiles_on(host, profiles):
            where = join(path, profile.name) + ".min"
            if profile.min_instances > profile.max_instances:
                what = f"{profile.min_instances} is more than its {profile.max_instances} instances"
                yield ConfigProblem(where, what, "Lower it, or give the host more instances.")
            if initial > profile.max_instances:
                what = f"{initial} of each profile are more than {profile.name} has here: {profile.max_instances}"
                cure = "Lower it, or give the profile more instances."
                yield ConfigProblem(f"hosts[{index}].initial_instances", what, cure)


def served_profiles(hosts: tuple[HostTable, ...], profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """Those that some host has; all of them without hosts."""
    names = {profile.name for host in hosts for profile in _profiles_on(host, profiles)}
    return tuple(p for p in profiles if p.name in names) if hosts else profiles


def policies_of(hosts: Iterable[HostTable], policy: Policy) -> tuple[Policy, ...]:
    """Each host's own policy. `policy`: what all have in common, with all profiles."""
    return tuple(
        structs.replace(
            policy,
            host=host.name,
            profiles=_profiles_on(host, policy.profiles),
            scheduler=structs.replace(policy.scheduler, place=host.place),
        )
        for host in hosts
    )


def _profiles_on(host: HostTable, profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """The profiles that a host has, in their order of importance, with its own counts."""
    found = []
    for profile in profiles:
        own = host.profiles.get(profile.name) if host.profiles else HostProfile()
        if own is None:
            continue
        most = profile.max_instances if own.instances is None else min(own.instances, profile.max_instances)
        numbers = profile.numbers if own.instances is None else profile.numbers[: own.instances]
        least = min(profile.min_instances, most) if own.min is None else own.min
        found.append(structs.replace(profile, numbers=numbers, max_instances=most, min_instances=least))
    return tuple(found)
