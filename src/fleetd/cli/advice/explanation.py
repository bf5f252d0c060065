"""What `fleetctl explain` says, as values: from what is wanted to what runs, what concerns the whole host, what to do.

docs/operations.md says the same about each code in its tables, and a test compares them.
"""

from __future__ import annotations

from fleetd.cli.advice.verdict import CALM_CLAMPS, Level
from fleetd.core.model.decision import Clamp, ClampCode
from fleetd.core.model.facts import Value
from fleetd.core.model.status import ProfileStatus, Status

CURES = {
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
    ClampCode.LATENCY_UNKNOWN: "see journalctl -u fleetd, which names the key",
    ClampCode.SYSTEMD_UNKNOWN: "systemctl status dbus",
    ClampCode.MEMORY_UNKNOWN: "see journalctl -u fleetd",
    ClampCode.PINNED: "fleetctl release N, or wait until it ends",
    ClampCode.NOT_RENDERED: "systemctl start fleetd-render",
    ClampCode.START_FAILED: "systemctl status mastodon-sidekiq@N, mend it, fleetctl release N",
    ClampCode.NO_NUMBER_FREE: "wait for the drain; if there is none, give the profile more instances",
    ClampCode.PAUSED: "fleetctl resume, or wait until it ends",
    ClampCode.SET: "fleetctl set PROFILE auto, or wait until it ends",
    ClampCode.UPGRADE: "fleetctl restart once it is whole, or fleetctl resume",
    ClampCode.HOST_PRESSURE: "fewer threads or instances here, or a bigger VM",
    ClampCode.OOM_KILLED: "fewer threads or instances here, or a bigger VM; memory.instance may be set too low",
    ClampCode.UNRESPONSIVE: "see the instance's log: journalctl -u mastodon-sidekiq@N",
    ClampCode.UNDRAINABLE: "see that its unit's main process is Sidekiq itself, or passes signals on",
    ClampCode.REDIS_NOT_WRITABLE: "let Redis take writes again: its log says why it does not",
}


#: What the host's decision says after the fleet's; each of these may keep what runs below what was granted.
_AFTER_THE_GRANT = frozenset(
    {
        ClampCode.PACE,
        ClampCode.PINNED,
        ClampCode.NOT_RENDERED,
        ClampCode.START_FAILED,
        ClampCode.NO_NUMBER_FREE,
        ClampCode.ROLLING,
        ClampCode.LONG_JOB,
        ClampCode.REDIS_NOT_WRITABLE,
        ClampCode.UNRESPONSIVE,
        ClampCode.UNDRAINABLE,
        ClampCode.PLAN_EXPIRED,
    }
)


class Reason(Value, frozen=True, kw_only=True):
    """One thing that changed a number or concerns the host."""

    code: str
    sentence: str
    wanted: int | None = None
    granted: int | None = None
    what_to_do: str = ""


class ProfileReasons(Value, frozen=True, kw_only=True):
    """The chain of one profile; None: unknown."""

    raw: int | None
    granted: int | None
    running: int | None
    clamps: tuple[Reason, ...]


class Explanation(Value, frozen=True, kw_only=True):
    """The document of `fleetctl explain --json`."""

    profiles: dict[str, ProfileReasons]
    host: tuple[Reason, ...]
    next: str


def explain_status(status: Status, profile: str = "") -> Explanation:
    """Of one profile or of all."""
    return Explanation(
        profiles={
            p.name: ProfileReasons(
                raw=p.needed_instances,
                granted=p.admitted_instances,
                running=p.running_instances,
                clamps=tuple(reason_of(clamp) for clamp in p.clamps),
            )
            for p in status.profiles
            if profile in ("", p.name)
        },
        host=tuple(reason for _, reason in host_reasons(status)),
        next=status.next_sentence,
    )


def reason_of(clamp: Clamp) -> Reason:
    return Reason(
        code=clamp.code.value,
        sentence=clamp.sentence,
        wanted=clamp.before_instances,
        granted=clamp.after_instances,
        what_to_do=CURES.get(clamp.code, ""),
    )


_HOLD_CODES = {"pause": ClampCode.PAUSED, "upgrade": ClampCode.UPGRADE}
_LOST_CODES = {
    "redis": ClampCode.LATENCY_UNKNOWN,
    "systemd": ClampCode.SYSTEMD_UNKNOWN,
    "host": ClampCode.MEMORY_UNKNOWN,
}
_UNKNOWN_CODES = frozenset(code for code in ClampCode if code.value.endswith("unknown"))


def host_reasons(status: Status) -> list[tuple[Level, Reason]]:
    """Holds, what can't be read, what is said of no profile, what the connections have to say; nothing twice."""
    found = []
    for hold in status.holds:
        code = _HOLD_CODES.get(hold.kind)
        reason = Reason(
            code=code.value if code else hold.kind,
            sentence=hold.sentence,
            what_to_do=CURES.get(code, "") if code else "",
        )
        found.append((Level.WARN, reason))
    shown = [clamp for profile in status.profiles for clamp in profile.clamps]
    for source in status.sources:
        if not source.ok and not any(source.why and source.why in clamp.sentence for clamp in shown):
            code = _LOST_CODES.get(source.name, ClampCode.HEADROOM_UNKNOWN)
            sentence = f"{source.name} can't be read: {source.why or 'no reading'}"
            found.append((Level.UNKNOWN, reason_of(Clamp(code=code, sentence=sentence))))
    told = (
        (ClampCode.OTHERS_UNATTRIBUTABLE, status.connections.unattributable),
        (ClampCode.DATABASE_SATURATED, status.connections.saturation),
    )
    said = [Clamp(code=code, sentence=sentence) for code, sentence in told if sentence]
    sentences = {reason.sentence for _, reason in found} | {clamp.sentence for clamp in said}
    plain = [clamp for clamp in status.clamps if not clamp.profile and clamp.sentence not in sentences]
    return found + [(clamp_level(clamp), reason_of(clamp)) for clamp in (*plain, *said)]


def clamp_level(clamp: Clamp) -> Level:
    if clamp.code in CALM_CLAMPS:
        return Level.OK
    return Level.UNKNOWN if clamp.code in _UNKNOWN_CODES else Level.WARN


def split_at_grant(profile: ProfileStatus) -> tuple[tuple[Clamp, ...], tuple[Clamp, ...]]:
    """The clamps before what was granted, and those that keep what runs from it."""
    clamps, granted = profile.clamps, profile.admitted_instances
    at = len(clamps)
    while at > 0 and _is_after(clamps[at - 1], granted):
        at -= 1
    return clamps[:at], clamps[at:]


def _is_after(clamp: Clamp, granted: int | None) -> bool:
    if clamp.code not in _AFTER_THE_GRANT:
        return False
    wanted, got = clamp.before_instances, clamp.after_instances
    return wanted is None or got is None or granted is None or got < wanted <= granted
