"""What is said while fleetd only observes (`mode = "observe"`), and what it would do."""

from __future__ import annotations

from collections.abc import Sequence

from fleetd.core.model import reasons
from fleetd.core.model.identity import SCHEDULER, InstanceKey, unit_name
from fleetd.core.model.status import WouldStatus
from fleetd.words.formatting import short_name

#: How that is ended.
ACT_AGAIN = 'set mode = "act" under [fleet] in fleetd.toml, then run `systemctl reload fleetd`'
OBSERVES = (
    f"fleetd only observes: it starts and stops nothing but what you order with fleetctl. To let it act, {ACT_AGAIN}"
)
ACTS = "fleetd acts again on what it decides"


def would(wish: WouldStatus) -> str:
    """What it would do, and why."""
    return f"would {wish.verb} {_units(wish.keys)}: {wish.why}"


def only_shown(reply: reasons.Reply) -> str:
    """To be added to the answer to an order that leaves the decision to fleetd; "": this one does not."""
    done = isinstance(reply, reasons.ReleaseTaken) and (reply.is_drained or reply.profile_set)
    if done or not isinstance(reply, reasons.ReleaseTaken | reasons.AutoTaken | reasons.ResumeTaken):
        return ""
    return " fleetd only observes, so what it decides then is only shown."


def _units(keys: Sequence[InstanceKey]) -> str:
    more = [short_name(key) for key in keys[1:]]
    return ", ".join([unit_name(keys[0]), *more])


def going_on(keys: Sequence[InstanceKey]) -> str:
    """What was begun before fleetd was told to observe, and is finished; "": nothing."""
    drains = ", ".join(short_name(key) for key in keys if key != SCHEDULER)
    return f"; drains under way go on: {drains}" if drains else ""
