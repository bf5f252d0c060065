"""The content of `fleetctl explain`: why each number of instances changed, what concerns the whole host, what to do.

docs/operations.md gives the same advice for each code in its tables; a test compares them.
"""

from __future__ import annotations

from fleetd.cli.advice.verdict import HOLD_CODES, Level, clamp_level
from fleetd.core.model.facts import Value
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, Status
from fleetd.words.observing import OBSERVES, would

WHAT_TO_DO = {
    ClampCode.MAX: "raise max and instances of the profile, if connections and memory allow",
    ClampCode.CONNECTIONS: (
        "raise the limit that binds (max_connections, max_client_conn), give web or streaming smaller pools, or a"
        " profile fewer threads; fleetctl connections shows who has what"
    ),
    ClampCode.OTHERS_UNATTRIBUTABLE: (
        "declare what web and streaming may take at most, under [[connections.claims]]; fleetctl connections shows what"
        " is seen"
    ),
    ClampCode.DATABASE_SATURATED: (
        "look at Postgres and PgBouncer (slow queries, locks, disk, default_pool_size), not at workers; growth is tried"
        " again by itself"
    ),
    ClampCode.YIELD: "nothing; more connections or memory would do for both",
    ClampCode.MEMORY: "lower memory.instance if your workers stay smaller; else a bigger VM",
    ClampCode.HEADROOM_UNKNOWN: "see journalctl -u fleetd; fleetd needs one connection of its own to each",
    ClampCode.LATENCY_UNKNOWN: (
        "start Redis if it is down; otherwise see journalctl -u fleetd, which names the key, or fleetctl hosts, if a"
        " host is lost"
    ),
    ClampCode.SYSTEMD_UNKNOWN: "systemctl status dbus",
    ClampCode.MEMORY_UNKNOWN: "see journalctl -u fleetd",
    ClampCode.PINNED: "fleetctl release N, or wait until it ends",
    ClampCode.NOT_RENDERED: "systemctl start fleetd-render",
    ClampCode.START_FAILED: "systemctl status mastodon-sidekiq@N, mend it, fleetctl release N",
    ClampCode.NO_NUMBER_FREE: "wait for the drain; if there is none, give the profile more instances",
    ClampCode.PAUSED: "fleetctl resume, or wait until it ends",
    ClampCode.MAINTENANCE: "fleetctl maintenance HOST --end, or wait until it ends",
    ClampCode.STOPPED: "systemctl start mastodon-sidekiq.target",
    ClampCode.SET: "fleetctl set PROFILE auto, or wait until it ends",
    ClampCode.UPGRADE: "fleetctl restart once it is whole, or fleetctl resume",
    ClampCode.FOREIGN_UNIT: "fleetctl check-config prints what to run; see docs/other-mastodons.md",
    ClampCode.MASKED: "systemctl unmask what is masked, or leave its number out of the profile's instances",
    ClampCode.HOST_PRESSURE: "fewer threads or instances here, or a bigger VM",
    ClampCode.OOM_KILLED: "fewer threads or instances here, or a bigger VM; memory.instance may be set too low",
    ClampCode.UNRESPONSIVE: "see the instance's log: journalctl -u mastodon-sidekiq@N",
    ClampCode.STALLED: "see to the jobs; [stuck] replace = true drains such an instance by itself",
    ClampCode.LONG_JOB: "wait until that job has ended; fleetctl drain N ends an instance that hangs in it",
    ClampCode.UNDRAINABLE: "see that its unit's main process is Sidekiq itself, or passes signals on",
    ClampCode.FLEET: "the sentence says what to do; see docs/several-hosts.md",
    ClampCode.NO_HOST: "raise max and instances of the profile on a host, end what holds one, or add a host",
    ClampCode.REDIS_NOT_WRITABLE: "let Redis take writes again: its log says why it does not",
}


_REDIS_IS_LOST = "start Redis, or see that this host reaches it: systemctl status redis-server, fleetctl doctor"


def advice(status: Status, code: ClampCode) -> str | None:
    """What to do about a clamp; None: nothing. A key is to blame for an unknown wait only if Redis answers."""
    lost = any(source.name == "redis" and not source.ok for source in status.sources)
    if code == ClampCode.LATENCY_UNKNOWN and lost:
        return _REDIS_IS_LOST
    return WHAT_TO_DO.get(code)


class Reason(Value, frozen=True, kw_only=True):
    """One thing that changed a number or concerns the host."""

    code: str
    sentence: str
    before_instances: int | None = None
    after_instances: int | None = None
    what_to_do: str | None = None


class ProfileReasons(Value, frozen=True, kw_only=True):
    """The numbers of one profile, and each clamp that changed them. None: unknown."""

    needed_instances: int | None
    admitted_instances: int | None
    running_instances: int | None
    clamps: tuple[Reason, ...]


class Explanation(Value, frozen=True, kw_only=True):
    """The document of `fleetctl explain --json`."""

    profiles: dict[str, ProfileReasons]
    host: tuple[Reason, ...]
    next: str
    observes: str | None = None  # that fleetd only observes, and how to end that; None: it acts
    would: tuple[str, ...] = ()  # what it would do then


def explain_status(status: Status, profile: str | None = None) -> Explanation:
    """The document for one profile, or for all of them."""
    return Explanation(
        profiles={
            p.name: ProfileReasons(
                needed_instances=p.needed_instances,
                admitted_instances=p.admitted_instances,
                running_instances=p.running_instances,
                clamps=tuple(reason_of(status, clamp) for clamp in p.clamps),
            )
            for p in status.profiles
            if profile in (None, p.name)
        },
        host=tuple(reason for _, reason in host_reasons(status)),
        next=status.next_sentence,
        observes=OBSERVES if status.mode == "observe" else None,
        would=tuple(would(wish) for wish in status.would if profile in (None, wish.profile or profile)),
    )


def reason_of(status: Status, clamp: ClampStatus) -> Reason:
    """A clamp with what to do about it."""
    return Reason(
        code=clamp.code.value,
        sentence=clamp.sentence,
        before_instances=clamp.before_instances,
        after_instances=clamp.after_instances,
        what_to_do=advice(status, clamp.code),
    )


#: The code of the clamp that a lost source causes. A lost source of connections causes HEADROOM_UNKNOWN.
_LOST_CODES = {
    "redis": ClampCode.LATENCY_UNKNOWN,
    "systemd": ClampCode.SYSTEMD_UNKNOWN,
    "host": ClampCode.MEMORY_UNKNOWN,
}


def host_reasons(status: Status) -> list[tuple[Level, Reason]]:
    """Holds, what can't be read, clamps of no profile, and what is wrong with the connections."""
    found = []
    for hold in status.holds:
        code = HOLD_CODES.get(hold.kind)
        what_to_do = None if code is None else WHAT_TO_DO[code]
        reason = Reason(code=code or hold.kind, sentence=hold.sentence, what_to_do=what_to_do)
        found.append((Level.WARN, reason))
    told = {clamp.code for profile in status.profiles for clamp in profile.clamps}
    clamps = []
    for source in status.sources:
        code = _LOST_CODES.get(source.name, ClampCode.HEADROOM_UNKNOWN)
        # The sentence of a HEADROOM_UNKNOWN clamp already names every lost source of connections.
        if not source.ok and not (code == ClampCode.HEADROOM_UNKNOWN and code in told):
            sentence = f"{source.name} can't be read: {source.why or 'no reading'}"
            clamps.append(ClampStatus(code=code, sentence=sentence))
    clamps += [clamp for clamp in status.clamps if not clamp.profile]
    for code, sentence in (
        (ClampCode.OTHERS_UNATTRIBUTABLE, status.connections.unattributable),
        (ClampCode.DATABASE_SATURATED, status.connections.saturation),
    ):
        clamps += [ClampStatus(code=code, sentence=sentence)] if sentence else []
    return found + [(clamp_level(clamp), reason_of(status, clamp)) for clamp in clamps]
