"""What the configured Sentinels say: whether they answer, agree, know each other, and are enough to lose one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fleetd.adapters.redis.sentinel_look import SentinelSeen
from fleetd.app.doctor.check import Check
from fleetd.words.formatting import times

_SUBJECT: Final = "Sentinels"


def sentinel_checks(seen: Sequence[SentinelSeen], master: str) -> Iterator[Check]:
    """`seen`: every configured one; `master`: the name of the primary."""
    answered = [one for one in seen if not one.why]
    # Who answers to two names is one Sentinel, and one of its names is silent for the majority.
    found = list({one.address: one for one in reversed(answered)}.values())[::-1]
    ours = [one for one in found if one.names_ours]
    yield _agreement(seen, found, ours)
    for one in seen:
        if one.why:
            why = "It counts as one that names another primary."
            yield Check(subject=_SUBJECT, verdict="look", what=f"{one.place} {one.why}", why=why)
        elif not one.primary:
            yield Check(subject=_SUBJECT, verdict="look", what=f"{one.place} knows no primary named {master}")
        elif not one.names_ours and (ours or len({other.primary for other in found}) > 1):
            why = "Others name another server: look at its log, and at what it reaches."
            yield Check(subject=_SUBJECT, verdict="look", what=f"{one.place} names {one.primary}", why=why)
    for one in answered:
        if one not in found:
            [same] = [other for other in found if other.address == one.address]
            what = f"{one.place} and {same.place} are the same Sentinel"
            why = "It counts once, so a majority is harder to reach: name each once."
            yield Check(subject=_SUBJECT, verdict="look", what=what, why=why)
    yield from _number(len(seen))
    yield from _knowing(len(seen), found)


def _agreement(seen: Sequence[SentinelSeen], found: Sequence[SentinelSeen], ours: Sequence[SentinelSeen]) -> Check:
    if len(ours) > len(seen) // 2:
        count = f"{len(ours)} of {len(seen)}" if len(ours) < len(seen) else f"all {len(seen)}"
        quorums = sorted({one.quorum for one in found if one.quorum is not None})
        quorum = f"; quorum {' or '.join(map(str, quorums))}" if quorums else ""
        what = f"{count} name {ours[0].primary}, which fleetd talks to{quorum}"
        return Check(subject=_SUBJECT, verdict="ok", what=what)
    why = f"Without {len(seen) // 2 + 1} of them nothing is granted: nothing grows above min, no scheduler starts."
    if not ours and len(found) == len(seen) and len({one.primary for one in found}) == 1 and found[0].primary:
        what = f"all {len(seen)} name {found[0].primary}, and fleetd talks to another Redis, or to none"
        return Check(subject=_SUBJECT, verdict="broken", what=what, why=f"{why} See that Redis runs there.")
    who = f"only {len(ours)} of {len(seen)} name" if ours else "none names"
    return Check(subject=_SUBJECT, verdict="broken", what=f"{who} the Redis that fleetd talks to", why=why)


def _number(configured: int) -> Iterator[Check]:
    if configured >= 3 and configured % 2:
        return
    if configured < 3:
        what = f"{times(configured, 'is', 'are')} configured"
        why = (
            "If one of them is lost, nobody fails over and nothing is granted: run three, each on a machine of its own,"
            " and name them all."
        )
    else:
        what = f"{configured} are configured, an even number"
        why = f"No more of them may be lost than of {configured - 1}: add one, or take one away."
    yield Check(subject=_SUBJECT, verdict="look", what=what, why=why)


def _knowing(configured: int, found: Sequence[SentinelSeen]) -> Iterator[Check]:
    """Whether they know each other, and whether those that they know are configured."""
    known = {one.place: one.others + 1 for one in found if one.others is not None}
    most = max(known.values(), default=0)
    for place, number in known.items():
        if number < max(most, len(found)):
            what = f"{place} knows {times(number - 1, 'other')}, not {max(most, len(found)) - 1}"
            why = "It can't vote with those that it does not know: see that they reach each other, on both ports."
            yield Check(subject=_SUBJECT, verdict="look", what=what, why=why)
    if most > configured:
        why = (
            "A majority of those that are named need not be one of all: name all of them, or, for some that are gone "
            "for good, SENTINEL RESET on each of the others."
        )
        yield Check(
            subject=_SUBJECT, verdict="look", what=f"they are {most}, of which {configured} are configured", why=why
        )
    for one in found:
        if one.quorum is not None and one.place in known and one.quorum > known[one.place]:
            what = f"{one.place} wants {one.quorum} of {known[one.place]} to agree that a primary is gone"
            why = "So nobody ever fails over: SENTINEL SET … quorum on each of them."
            yield Check(subject=_SUBJECT, verdict="look", what=what, why=why)
