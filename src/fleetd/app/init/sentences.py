"""What `fleetctl init` says, on screen and in the file: each number's reason, and what could not be found out."""

from __future__ import annotations

from collections.abc import Iterator

from fleetd.app.init.propose import Proposal, ProposedProfile
from fleetd.app.init.room import ASSUMED_LIMIT_CONNECTIONS, Claim, SourceRoom
from fleetd.app.init.wishes import THREADS_MAX
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.base import ConnectionSource
from fleetd.words.formatting import CONNECTION_SOURCES, capitalised, duration, sentence, size, times

_RAISE: dict[ConnectionSource, str] = {
    "postgres": "a higher max_connections in postgresql.conf",
    "pgbouncer": "a higher max_client_conn in pgbouncer.ini",
    "replica": "a higher max_connections on the replica",
}
_ASSUMED: dict[ConnectionSource, str] = {
    "postgres": f"{ASSUMED_LIMIT_CONNECTIONS['postgres']}, Debian's max_connections of 100 less 3 for superusers,",
    "pgbouncer": f"its own default of {ASSUMED_LIMIT_CONNECTIONS['pgbouncer']}",
}
_NAMED_MAX = 4
_TAKEOVER = duration(SchedulerPolicy().takeover_seconds)


def names(words: tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b, c, d and 3 more`."""
    if len(words) <= 1:
        return "".join(words)
    if len(words) > _NAMED_MAX:
        return f"{', '.join(words[:_NAMED_MAX])} and {len(words) - _NAMED_MAX} more"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def found_lines(proposal: Proposal) -> Iterator[str]:
    """What was found, a line each."""
    found = proposal.found
    yield f"Mastodon in {found.mastodon.directory}, run as {found.mastodon.user}"
    units = tuple(unit for wish in proposal.wishes.profiles for unit in wish.units)
    units += (proposal.wishes.scheduler_unit,) if proposal.wishes.scheduler_unit not in ("", *units) else ()
    if found.services is not None:
        now = "now" if replaced_units(proposal) else "not now"
        yield f"Sidekiq {now} run by {names(units)}" if units else "no unit that runs Sidekiq"
    memory = f"{size(found.memory.total_bytes)} of memory" if found.memory is not None else "memory unknown"
    yield f"{times(found.cores, 'core')}, {memory}" + (", shared with web" if proposal.room.web_here else "")
    yield from (arithmetic(source, proposal) for source in proposal.room.sources)


def arithmetic(source: SourceRoom, proposal: Proposal) -> str:
    """`Postgres: limit 97, less reserve 10, less others' 20: 67 for workers and the scheduler`."""
    kept = source.limit_connections - source.others_connections - source.elsewhere_connections
    reserve = kept - source.left_connections
    elsewhere = source.elsewhere_connections
    limit = f"limit {source.limit_connections}" + ("" if source.known else " (assumed)")
    parts = [limit, f"reserve {reserve}", f"others' {source.others_connections}"]
    parts += [f"{elsewhere} of other hosts' workers"] if elsewhere else []
    left = max(0, source.left_connections)
    who = "workers" if proposal.place == "elsewhere" else "workers and the scheduler"
    return f"{capitalised(CONNECTION_SOURCES[source.source])}: {', less '.join(parts)}: {left} for {who}"


def unknown_lines(proposal: Proposal) -> Iterator[str]:
    """What could not be found out, and what is assumed instead, as sentences."""
    found = proposal.found
    if found.services is None:
        yield "systemd did not say which units there are; Mastodon's own unit is assumed."
    if found.mastodon.env_why:
        yield f"{found.mastodon.directory}/.env.production can't be read: {sentence(found.mastodon.env_why)}"
    else:
        if found.servers.redis_why:
            yield f"Redis could not be asked: {sentence(found.servers.redis_why)}"
        for lost in found.servers.unknown:
            yield f"{capitalised(CONNECTION_SOURCES[lost.source])} could not be asked: {sentence(lost.why)}"
    for source in proposal.room.sources:
        if not source.known:
            name = capitalised(CONNECTION_SOURCES[source.source])
            yield f"{name}'s limit is not known: {_ASSUMED[source.source]} is assumed."
    if found.memory is None:
        yield "How much memory there is could not be read; two instances are assumed to fit."
    if found.servers.strange_pooler:
        yield "A pooler that fleetd does not know answers: set connections.limit to what it allows Mastodon."
    for unit in found.running("sidekiq"):
        if unit.sidekiq is not None and unit.sidekiq.config_file and not unit.sidekiq.queues:
            yield f"{unit.name} has its queues from {unit.sidekiq.config_file}, which is not read: all are assumed."
    if found.other_mastodons:
        yield f"{names(found.other_mastodons)} run a Sidekiq of another directory, which fleetd leaves alone."


def growth_lines(proposal: Proposal) -> Iterator[str]:
    """Whether the fleet can grow, and if not, what would help; as sentences."""
    first, there = proposal.profiles[0], proposal.room
    memory, tightest = there.memory, there.tightest
    if not proposal.fits:
        yield (
            f"There are no connections for even one instance: {proposal.lacking_connections} more are needed. What "
            f"helps: {_RAISE[tightest.source]}, or fewer processes and threads of web."
        )
    elif proposal.growth_instances:
        more = times(proposal.growth_instances, "instance")
        alone = " or of another profile" if len(proposal.profiles) > 1 else ""
        yield f"Above min, {more} of {first.wish.name}{alone} can be added."
    elif first.bound == "memory" and memory is not None:
        need = memory.instance_bytes * (len(proposal.profiles) + 1)
        yield (
            f"Nothing grows above min: {size(memory.free_bytes)} of memory are free for workers, and one more would "
            f"need {size(need)}. What helps: more memory, or fewer processes of web."
        )
    elif first.bound == "cores":
        yield "Nothing grows above min: there is one core. What helps: another core, or a worker VM."
    else:
        yield (
            f"Nothing grows above min: {proposal.lacking_connections} more connections are needed for one more "
            f"instance. What helps: {_RAISE[tightest.source]}, or fewer processes and threads of web."
        )
    if proposal.fits and proposal.short_connections and replaced_units(proposal):
        yield (
            f"While fleetd takes over, old and new workers need {proposal.short_connections} more connections than "
            f"there are. What helps: {_RAISE[tightest.source]} until then, or fewer of the old units."
        )
    if memory is not None and memory.short and first.bound != "memory":
        grows = f"one grows to {size(memory.instance_bytes)}"
        yield f"Memory is short: {size(memory.free_bytes)} are free for workers, {grows}."


def replaced_units(proposal: Proposal) -> tuple[str, ...]:
    """Units that run now and that fleetd's workers take over from."""
    units = [unit for wish in proposal.wishes.profiles for unit in wish.units]
    running = {service.name for service in proposal.found.running("sidekiq")}
    return tuple(unit for unit in dict.fromkeys([*units, proposal.wishes.scheduler_unit]) if unit in running)


def origin(profile: ProposedProfile, proposal: Proposal) -> str:
    """Where a profile comes from."""
    wish = profile.wish
    text = f"What {names(wish.units)} {'serves' if len(wish.units) == 1 else 'serve'}." if wish.units else ""
    if not wish.units:
        text = "What Mastodon's own unit serves: all queues, by Mastodon's weights."
    if wish.merged:
        text += f" One profile for {names(wish.merged)}: there is no room for an instance of each and one more."
    if wish.added:
        text += f" Nobody serves {names(wish.added)}, so it is here too; that does no harm where Mastodon has none."
    return text


def threads_reason(profile: ProposedProfile, proposal: Proposal) -> str:
    """Of the number of threads, with what one instance claims."""
    wish, pool = profile.wish, proposal.found.servers.workers_pool
    claims = f"claims {profile.claim_connections} connections"
    if profile.threads < wish.threads:
        if pool is not None and profile.threads == pool:
            return f"{wish.threads} before; pool={pool} in the address of Mastodon's database allows no more; {claims}"
        was = f"{wish.threads} {'before' if wish.units else 'in Mastodon itself'}"
        fits = "it fits" if proposal.lacking_connections else "one more instance fits"
        return f"{was}; with fewer, {fits} the database; {claims}"
    if profile.threads == THREADS_MAX:
        return f"more bring nothing in one Ruby process; {claims}"
    return f"{'-c of the unit' if wish.units else 'as Mastodon itself'}; {claims}: one a thread, and two"


def min_reason(profile: ProposedProfile, proposal: Proposal) -> str:
    if profile.min_instances:
        return "always runs"
    if not proposal.fits:
        return "no connections are left for it; it starts once some are"
    return "starts when its queues need it: not all fit at once with one more"


def max_reason(profile: ProposedProfile, proposal: Proposal) -> str:
    there, memory = proposal.room, proposal.room.memory
    if profile.bound == "enough":
        return "enough to begin with"
    if profile.bound == "memory":
        if memory is None:
            return "how much memory there is could not be read"
        return f"{size(memory.free_bytes)} of memory are free for workers; one grows to {size(memory.instance_bytes)}"
    if profile.bound == "cores":
        cores = proposal.found.cores
        if there.core_instances < 2:
            return "there is one core"
        if there.core_instances <= len(proposal.profiles):
            return f"one more than runs always; there are {times(cores, 'core')}"
        if there.web_here and there.core_instances < cores:
            return f"{there.core_instances} of {cores} cores; web needs the others"
        return f"one for each of {times(cores, 'core')}"
    return f"no more fit into the {max(0, there.tightest.left_connections)} connections below"


def place_reason(proposal: Proposal) -> str:
    now = proposal.place_at
    if proposal.place == "elsewhere":
        return f'{now} serves it now; "auto" would take over after {_TAKEOVER} without one, and claims connections'
    if proposal.place_from in ("heartbeat", "unit") and now:
        does = "serves it here now" if now in replaced_units(proposal) else "is the one that served it here"
        return f"{now} {does}; fleetd's own unit does so once that is stopped"
    if proposal.place_from == "heartbeat":
        return "a process of this host serves it now"
    if proposal.place_from == "alone":
        return "nobody serves it now, and web runs here"
    if proposal.place_from == "nobody":
        return f"nobody serves it now: this host does after {_TAKEOVER} without one"
    return f"it could not be asked who serves it: this host does after {_TAKEOVER} without one"


def scheduler_threads_reason(proposal: Proposal) -> str:
    if proposal.scheduler_threads == proposal.wishes.scheduler_threads:
        return f"-c of {proposal.wishes.scheduler_unit}"
    return "fewer than the default of 10, so that more connections are left for workers"


def claim_reason(claim: Claim) -> str:
    if not claim.parts:
        return "of other roles, seen now"
    many, each = claim.parts
    if claim.declared.name == "web":
        text = f"{times(many, 'process', 'processes')} × {times(each, 'thread')}"
    else:
        text = f"{times(many, 'process', 'processes')} with a pool of {each}"
    return text if claim.here else f"{text}, by .env.production or Mastodon's defaults: no unit here runs it"
