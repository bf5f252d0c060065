"""Compares the whole table with what is there, until each claim was right once or the time is over."""

from __future__ import annotations

import json
import time

from lab import LabError
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import FLEETCTL, Fleet
from tests.support.lab.probes.claims import CLAIMS, Beside, Json
from tests.support.lab.probes.look import Seen, look
from tests.support.lab.probes.wrong import wrong


def status_of(fleet: Fleet) -> Json:
    """What an admin's script gets."""
    done = fleet.worker.run([FLEETCTL, "status", "--json"], check=False)
    if done.returncode != 0:
        raise LabError(f"fleetctl status --json: {done.returncode}: {done.stdout}{done.stderr}")
    found: Json = json.loads(done.stdout)
    return found


def headline_of(fleet: Fleet) -> str:
    """The first line that an admin reads."""
    return fleet.worker.run([FLEETCTL, "status"], check=False).stdout.partition("\n")[0]


def falsehoods(fleet: Fleet, beside: Beside, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, list[str]]:
    """What was said and was wrong all the time, by claim; empty when all of it was right.

    Between two looks the world moves: a claim is false if it never agrees with what is seen just before or after it.
    """
    open_ = {*CLAIMS, "headline"}
    found: dict[str, list[str]] = {}
    end = time.monotonic() + patience_seconds
    before = look(fleet)
    while open_:
        status, headline = status_of(fleet), headline_of(fleet)
        after = look(fleet)
        for claim in sorted(open_):
            told = [_problems(claim, status, headline, seen, beside) for seen in (before, after)]
            found[claim] = min(told, key=len)
            if not found[claim]:
                open_.remove(claim)
        if time.monotonic() > end:
            break
        before = after
    return {claim: problems for claim, problems in found.items() if problems}


def _problems(claim: str, status: Json, headline: str, seen: Seen, beside: Beside) -> list[str]:
    if claim == "headline":
        return [f"{headline!r}, and {fault}" for fault in wrong(seen, beside)] if headline.startswith("✔") else []
    return list(CLAIMS[claim](status, seen, beside))
