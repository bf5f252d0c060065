"""The ledger of the search: every call goes to the rules themselves, and each answer is checked.

States of the ledger are kept by number, moved to one clock. The same call on the same state is made once.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import structs

from fleetd.core.fleet import admission, rules, slot
from fleetd.core.fleet.calls import Admit, Admitted, Beat, OwnScheduler, Refusal, Server, Start
from fleetd.core.fleet.state import BySource, Entry, LedgerState
from tests.support.fleet_search.scale import (
    AGE_MS_MAX,
    CLAIM,
    LIMIT,
    SMALL,
    STEP_MS,
    TAKEOVER_MS,
    TICK_MS,
    steps_counted,
)
from tests.support.fleet_search.world import SCHEDULER, STANDING, Place, Setting

#: Where each state's clock is put. Nothing that matters is as old as that.
NOW_MS = 1_000_000
SOURCE = "postgres"
OWN: tuple[OwnScheduler, ...] = ("there", "kept", "gone", "unknown")


class BeatCall(NamedTuple):
    """A beat, with masks for sets."""

    host: int
    boot: int
    nonce: int
    number: int
    generation: int
    clock: int  # relative to the ledger's, when it was sent
    members: int
    version: int
    own: int  # an index of OWN
    schedulers: int  # -1: unknown
    claims: int  # -1: unknown
    ended: int  # five bits a host: its processes, and that nothing of it is left


class AdmitCall(NamedTuple):
    """The question for one start."""

    host: int
    nonce: int
    number: int
    generation: int
    claims: int
    start: int
    seen: tuple[int, ...]  # by process, four a host: connections that are open


class Told(NamedTuple):
    """What a beat led to."""

    ledger: int
    moved: int  # how far the ledger's clock went
    refused: bool
    heard: bool = True  # whether a refusal changed something: the clock, and whether a scheduler was seen
    generation: int = 0
    clock: int = 0  # relative to the ledger's
    gathering: bool = False
    holder: int = -1
    members: int = -1  # -1: as before
    version: int = 0
    leads: bool = False
    gathered: int = -1  # hosts that had told everything when gathering ended; -1: it did not end
    waited: int = 0  # hosts that gathering ended without, after its longest time
    listed: int = 0  # hosts that the ledger knows
    left: int = 0  # hosts of which the ledger keeps nothing since
    dropped: int = 0  # claims that went, four bits a host
    taken_from: int = -1  # the host that lost the slot by this beat, outside of gathering


class Broken(Exception):  # noqa: N818 (it is a finding)
    """Something that must hold does not."""


def host_name(host: int) -> str:
    """The name of a host."""
    return "abcdef"[host]


def process_name(host: int, process: int) -> str:
    """The application_name of a process."""
    number = "-scheduler" if process == SCHEDULER else f"@{process + 1}"
    return f"mastodon-sidekiq{number}:{host_name(host)}"


class Ledgers:
    """States of the ledger by number; 0 is none."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.states: list[LedgerState | None] = [None]
        self._numbers: dict[bytes, int] = {}
        self._beats: dict[tuple[int, BeatCall, int, int], Told] = {}
        self._admits: dict[tuple[int, AdmitCall, int], tuple[int, bool]] = {}
        self._swapped: dict[tuple[int, tuple[int, ...]], int] = {}
        self._silent: dict[int, list[int]] = {}
        self._index = {host_name(h): h for h in range(setting.size)}
        self._processes = {process_name(h, p): 4 * h + p for h in range(setting.size) for p in range(4)}
        self._encode = msgspec.json.Encoder(order="deterministic").encode

    def number(self, state: LedgerState | None) -> int:
        """The number of a state, with its clock moved to NOW_MS and ages that can't matter any more made alike."""
        if state is None:
            return 0
        state = self._at_now(state)
        key = self._encode(state)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.states)
            self.states.append(state)
        return found

    def _at_now(self, state: LedgerState) -> LedgerState:
        clock = state.clock_ms

        begun = clock if state.gathering_ms is None else state.gathering_ms
        beat_max = AGE_MS_MAX if self.setting.fit else clock - begun + 2 * STEP_MS

        def moved(time_ms: int, age_max: int = TAKEOVER_MS) -> int:
            return NOW_MS - min(clock - time_ms, age_max)

        def entry(of: Entry) -> Entry:
            told = of.told_generation if of.told_generation == state.generation else 0
            return structs.replace(of, beat_ms=moved(of.beat_ms, beat_max), told_generation=told)

        lease, until = state.lease, state.lease.until_ms
        return structs.replace(
            state,
            clock_ms=NOW_MS,
            time_ms=NOW_MS,
            gathering_ms=None if state.gathering_ms is None else moved(begun, AGE_MS_MAX),
            lease=structs.replace(lease, until_ms=0 if until == 0 else NOW_MS + max(0, until - clock)),
            slot=structs.replace(
                state.slot,
                sighted_ms=moved(state.slot.sighted_ms),
                holder_ms=moved(state.slot.holder_ms),
                rival_ms=moved(state.slot.rival_ms, slot.RIVAL_MS),
            ),
            hosts={h: entry(e) for h, e in state.hosts.items()},
        )

    def beat(self, ledger: int, call: BeatCall, elapsed: int, run: int) -> Told:
        """What the rules make of a beat, after so many steps of the server's clock."""
        key = (ledger, call, elapsed, run)
        found = self._beats.get(key)
        if found is None:
            found = self._beats[key] = self._beat(*key)
        return found

    def _beat(self, ledger: int, call: BeatCall, elapsed: int, run: int) -> Told:
        state = self.states[ledger]
        after, answer = rules.beat(state, self._beat_of(call), self._server(elapsed, run))
        if isinstance(answer, Refusal):
            moved = 0 if after is None else after.clock_ms - NOW_MS
            return Told(ledger=self.number(after), moved=moved, refused=True, heard=after is not state)
        assert after is not None
        check_own_fields(state, after, call, set(self._ended(call.ended)))
        check_growth(state, after)
        before_holder = -1 if state is None else self._index.get(state.slot.holder, -1)
        holder = self._index.get(after.slot.holder, -1)
        calm = state is not None and after.gathering_ms is None and state.gathering_ms is None
        ended = state is None or state.gathering_ms is not None or state.generation != after.generation
        begun = None if state is None else state.gathering_ms
        long = begun is not None and after.clock_ms - begun >= SMALL["GATHERING_MS_MAX"]
        return Told(
            ledger=self.number(after),
            moved=after.clock_ms - NOW_MS,
            refused=False,
            generation=answer.generation,
            clock=answer.clock_ms - after.clock_ms,
            gathering=answer.gathering is not None,
            holder=holder,
            members=-1 if answer.members is None else sum(1 << self._index[m] for m in answer.members),
            version=answer.members_version,
            leads=answer.told is not None,
            gathered=self._told(after) if ended and after.gathering_ms is None else -1,
            waited=self._listed(after) & ~self._told(after) if long else 0,
            listed=self._listed(after),
            left=sum(1 << h for name, h in self._index.items() if left(state, after, name)),
            dropped=0 if state is None else self._claimed(state) & ~self._claimed(after) & ~(15 << 4 * call.host),
            taken_from=before_holder if calm and before_holder not in (-1, holder) else -1,
        )

    def _listed(self, state: LedgerState) -> int:
        return sum(1 << self._index[h] for h in state.hosts)

    def _told(self, state: LedgerState) -> int:
        done = (h for h, e in state.hosts.items() if e.gone or e.told_generation == state.generation)
        return sum(1 << self._index[h] for h in done)

    def _claimed(self, state: LedgerState) -> int:
        return sum(1 << self._processes[name] for names in state.claims.values() for name in names)

    def _ended(self, mask: int) -> list[tuple[str, str]]:
        names = {5 * (n // 4) + n % 4: name for name, n in self._processes.items()}
        return [(host_name(bit // 5), names.get(bit, "")) for bit in range(5 * self.setting.size) if mask >> bit & 1]

    def claims_of(self, host: int, processes: int) -> dict[str, BySource]:
        """What these processes claim."""
        setting = self.setting
        own = {p: {SOURCE: CLAIM} for p in range(3)} | ({SCHEDULER: {SOURCE: 1}} if setting.scheduler_claims else {})
        return {process_name(host, p): own[p] for p in own if processes >> p & 1}

    def silent(self, ledger: int) -> list[int]:
        """Hosts that will have been silent for long at the next beat."""
        found = self._silent.get(ledger)
        if found is None:
            state = self.states[ledger]
            entries = {} if state is None else state.hosts
            least = NOW_MS + steps_counted() * STEP_MS - rules.SILENT_MS
            found = self._silent[ledger] = [self._index[h] for h, e in entries.items() if e.beat_ms <= least]
        return found

    def missing(self, host: int, processes: int) -> BySource:
        """What the host may still open on its way up to `min`."""
        wants = bool(self.setting.standing) and self.setting.standing[host]
        return {SOURCE: CLAIM} if wants and not processes >> STANDING & 1 else {}

    def _beat_of(self, call: BeatCall) -> Beat:
        setting = self.setting
        sets_aside = setting.scheduler_claims and setting.places[call.host] != Place.ELSEWHERE
        return Beat(
            fleet="f",
            host=host_name(call.host),
            boot_id=str(call.boot),
            nonce=f"{call.host}.{call.nonce}",
            sent_ms=call.number,
            tick_ms=TICK_MS,
            generation=call.generation,
            clock_ms=NOW_MS + call.clock,
            members=self._hosts_of(call.members),
            members_version=call.version,
            fit=setting.fit,
            own_scheduler=OWN[call.own],
            schedulers=None if call.schedulers < 0 else self._hosts_of(call.schedulers),
            claims=None if call.claims < 0 else self.claims_of(call.host, call.claims),
            missing=self.missing(call.host, max(0, call.claims)),
            scheduler={SOURCE: 1} if sets_aside else {},
            ended=tuple(self._ended(call.ended)),
            orders_version=0,
            epoch=0,
        )

    def _hosts_of(self, mask: int) -> tuple[str, ...]:
        return tuple(name for name, h in self._index.items() if mask >> h & 1)

    def _server(self, elapsed: int, run: int) -> Server:
        return Server(time_ms=NOW_MS + elapsed * STEP_MS, run_id=str(run))

    def admit(self, ledger: int, call: AdmitCall, run: int) -> tuple[int, bool]:
        """The ledger after the question, and whether the start is granted."""
        key = (ledger, call, run)
        found = self._admits.get(key)
        if found is None:
            found = self._admits[key] = self._admit(*key)
        return found

    def _admit(self, ledger: int, call: AdmitCall, run: int) -> tuple[int, bool]:
        state, setting = self.states[ledger], self.setting
        name = process_name(call.host, call.start)
        asked = Admit(
            host=host_name(call.host),
            nonce=f"{call.host}.{call.nonce}",
            sent_ms=call.number,
            generation=call.generation,
            claims=self.claims_of(call.host, call.claims),
            missing=self.missing(call.host, call.claims),
            starts=(
                Start(
                    name=name,
                    claims=self.claims_of(call.host, 1 << call.start).get(name, {}),
                    scheduler=call.start == SCHEDULER,
                ),
            ),
            limits={SOURCE: LIMIT + setting.scheduler_claims},
            seen={n: call.seen[i] for n, i in self._processes.items() if call.seen and call.seen[i]},
            here=setting.places[call.host] == Place.HERE,
            takeover_ms=TAKEOVER_MS,
        )
        after, answer = admission.admit(state, asked, self._server(0, run))
        check_admitted(state, after, asked, answer)
        return self.number(after), answer.granted == 1

    def swapped(self, ledger: int, order: tuple[int, ...]) -> int:
        """The ledger with host number `order[i]` renamed to `i`."""
        state = self.states[ledger]
        if state is None:
            return 0
        found = self._swapped.get((ledger, order))
        if found is None:
            text = self._encode(state).decode()
            for new, old in enumerate(order):
                text = text.replace(f'"{host_name(old)}"', f'"<{new}"').replace(f":{host_name(old)}", f":<{new}")
                text = text.replace(f'"nonce":"{old}.', f'"nonce":"<{new}.').replace(
                    f'"replaced_nonce":"{old}.', f'"replaced_nonce":"<{new}.'
                )
            for new in range(len(order)):
                text = text.replace(f'"<{new}"', f'"{host_name(new)}"').replace(f":<{new}", f":{host_name(new)}")
                text = text.replace(f'nonce":"<{new}.', f'nonce":"{new}.')
            found = self.number(msgspec.json.decode(text, type=LedgerState))
            self._swapped[ledger, order] = found
        return found


def left(before: LedgerState | None, after: LedgerState, host: str) -> bool:
    """Whether a host was taken for gone by this beat."""
    entry = None if before is None else before.hosts.get(host)
    return entry is not None and not entry.gone and (host not in after.hosts or after.hosts[host].gone)


def check_growth(before: LedgerState | None, after: LedgerState) -> None:
    """Clock, generation and (generation, epoch) grow."""
    if before is None:
        return
    if after.clock_ms < before.clock_ms:
        raise Broken("the fleet clock went back")
    if (after.generation, after.planned.epoch) < (before.generation, before.planned.epoch):
        raise Broken("the generation or the epoch went back")
    if after.lease.token < before.lease.token or after.members_version < before.members_version:
        raise Broken("a version went back")


def check_own_fields(
    before: LedgerState | None, after: LedgerState, call: BeatCall, ended: set[tuple[str, str]]
) -> None:
    """A beat changes its own host's fields; others' claims go by the rule of silence only."""
    own = host_name(call.host)
    entries = {} if before is None else before.hosts
    silent = {h for h, e in entries.items() if after.clock_ms - e.beat_ms >= rules.SILENT_MS}
    for host, entry in entries.items():
        if host == own:
            continue
        now = after.hosts.get(host)
        if now != entry and host not in silent:
            raise Broken(f"the beat of {own} changed what is kept of {host}")
        claims, kept = before.claims.get(host, {}) if before else {}, after.claims.get(host, {})
        gone = {name for name in claims if kept.get(name) != claims[name]}
        if gone and (host not in silent or not {(host, name) for name in gone} <= ended):
            raise Broken(f"claims of {host} went: {sorted(gone)}")
        if now is None and kept:
            raise Broken(f"{host} was forgotten with its claims")


def check_admitted(before: LedgerState | None, after: LedgerState | None, call: Admit, answer: Admitted) -> None:
    """Nothing is granted while gathering; after a grant everything fits; nobody else's claims change."""
    if before is None or after is None:
        if answer.granted:
            raise Broken("granted without a ledger")
        return
    for host in before.hosts:
        if host != call.host and (
            before.hosts[host] != after.hosts[host] or before.claims.get(host) != after.claims.get(host)
        ):
            raise Broken(f"the question of {call.host} changed what is kept of {host}")
    if not answer.granted:
        if after.slot != before.slot:
            raise Broken("the slot moved without a grant")
        return
    if before.gathering_ms is not None:
        raise Broken("granted while the truth is gathered")
    claimed = sum(c.get(SOURCE, 0) for names in after.claims.values() for c in names.values())
    aside = sum(e.missing.get(SOURCE, 0) for e in after.hosts.values())
    if claimed + aside > call.limits[SOURCE] and call.starts[0].claims:
        raise Broken(f"granted beyond the limit: {claimed} claimed, {aside} set aside")
    if call.starts[0].scheduler and after.slot.holder != call.host:
        raise Broken("a scheduler was granted without the slot")
