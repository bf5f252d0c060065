"""The outcomes of a simulation as one JSON document."""

from __future__ import annotations

import msgspec

from fleetd.simulate.run import Outcome
from fleetd.simulate.trace import Trace


def document(trace: Trace, outcomes: list[Outcome]) -> str:
    """`{"trace": NAME, "policies": {NAME: scores}}`; docs/traces.md names every field."""
    policies = {outcome.policy: msgspec.to_builtins(outcome.score) for outcome in outcomes}
    return msgspec.json.encode({"trace": trace.name, "policies": policies}).decode()
