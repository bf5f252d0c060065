"""How processes of ours ended, in words."""

from __future__ import annotations

import signal

from fleetd.core.model.facts import EndCause, Ending
from fleetd.core.model.reasons.units import Died
from fleetd.core.model.status import DeathsStatus
from fleetd.words.formatting import duration, names, often


def ending_words(ending: Ending) -> str:
    """What ended a process, to follow "died"."""
    match ending.cause:
        case EndCause.SIGNAL:
            return f"by {_signal_name(ending.signal)}"
        case EndCause.CORE_DUMP:
            return f"by {_signal_name(ending.signal)}, with a core dump"
        case EndCause.EXIT:
            status = "an error" if ending.exit_status is None else f"exit status {ending.exit_status}"
            return f"with {status}"
    return _BY_OTHERS[ending.cause]


_BY_OTHERS = {
    EndCause.OOM: "by the OOM killer",
    EndCause.TIMEOUT: "by systemd's timeout",
    EndCause.WATCHDOG: "by systemd's watchdog",
    EndCause.UNKNOWN: "of an unknown cause",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if number else "a signal"


def died_words(died: DeathsStatus) -> str:
    """`died 5 times in the last hour, last by SIGKILL, 40 s ago`."""
    count = f"{'at least ' if died.at_least else ''}{often(died.deaths)}"
    last = "last " if died.deaths > 1 else ""
    return f"died {count} in the last hour, {last}{ending_words(died.last)}, {duration(died.last_age_seconds)} ago"


def died_sentence(r: Died) -> str:
    """That some died alike; neither fleetd nor `systemctl stop` ended it."""
    each = " each" if len(r.keys) > 1 else ""
    if r.deaths > 1:
        return f"{names(r.keys)} died {r.deaths} times{each} since fleetd last looked, last {ending_words(r.last)}"
    verb = "ended" if r.last.clean else "died"
    them = "them" if len(r.keys) > 1 else "it"
    return f"{names(r.keys)} {verb} {ending_words(r.last)}; neither fleetd nor `systemctl stop` ended {them}"
