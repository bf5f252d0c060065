"""The screen when fleetd doesn't answer: what happened, what still runs, what to do."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
from rich.text import Text

from fleetd.cli.advice.postmortem import Postmortem, UnitState, Worker
from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, hanging
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols, sign
from fleetd.words.formatting import duration, numbers, sentence, times

_TEMPLATE = "mastodon-sidekiq@"
_UP = ("active", "reloading", "activating")


def down_lines(postmortem: Postmortem, *, width: int, symbols: Symbols) -> Lines:
    """All of it; the journal's lines are cut to the width, sentences are wrapped."""
    width = max(20, min(width, 160))
    postmortem = _cleaned(postmortem, symbols)
    unit = postmortem.unit
    level = Level.UNKNOWN if unit is None else Level.BAD
    head = Text.assemble(sign(level, symbols), " ")
    style = f"bold {STYLES[level]}"
    lines = hanging(head, Text(_headline(postmortem), style), width, lines_max=4, symbols=symbols)
    lines += hanging(Text("  "), Text(_consequence(postmortem), ""), width, lines_max=4, symbols=symbols)
    if unit is None or postmortem.running:
        lines += hanging(
            Text("  "), Text(sentence(postmortem.error), QUIET), width, lines_max=6, symbols=symbols
        )
    for title, block in (
        ("Last words of fleetd", _journal(postmortem, width, symbols)),
        ("Workers, which outlive fleetd", _workers(postmortem, width, symbols)),
        ("What to do", _cures(postmortem, width, symbols)),
    ):
        if block:
            lines += [Text(), Text(title, "bold"), *block]
    for line in lines:
        line.truncate(width)
    return lines


def _cleaned(postmortem: Postmortem, symbols: Symbols) -> Postmortem:
    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value, ascii_only=symbols.ascii_only)
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        return {key: walk(item) for key, item in value.items()} if isinstance(value, dict) else value

    return msgspec.convert(walk(msgspec.to_builtins(postmortem)), Postmortem)


def _headline(postmortem: Postmortem) -> str:
    unit = postmortem.unit
    if unit is None:
        return f"fleetd does not answer, and systemd can't be asked about it: {sentence(postmortem.unit_why)}"
    if unit.load_state == "not-found":
        return "fleetd is not installed as a service on this host: systemd knows no fleetd.service."
    since = f" for {duration(unit.since_age_seconds)}" if unit.since_age_seconds is not None else ""
    if postmortem.running:
        return f"fleetd runs{since} but gives no status."
    restarts = f"; systemd restarted it {times(unit.restarts, 'time')}" if unit.restarts else ""
    how = _ending(unit)
    if unit.active_state == "activating" and unit.sub_state.startswith("auto-restart"):
        return f"fleetd keeps ending{how}{restarts} and tries again."
    if unit.active_state == "activating":
        return f"fleetd is starting{since} and does not answer yet{restarts}."
    if unit.active_state == "deactivating":
        return f"fleetd is stopping{since}."
    if unit.active_state == "failed":
        return f"fleetd has failed{how}, down{since}{restarts}."
    if unit.since_age_seconds is None:  # systemd forgets a unit that nothing keeps loaded
        return "fleetd is not running: it was stopped, or never started since boot."
    return f"fleetd is not running: it was stopped {duration(unit.since_age_seconds)} ago."


#: What systemd itself ends a service with before its program runs (systemd.exec(5), "Process Exit Codes").
_EXIT_STATUSES = {
    203: "its program can't be run",
    217: "its user does not exist",
    226: "its sandbox could not be set up",
    243: "a credential could not be loaded",
}


def _ending(unit: UnitState) -> str:
    """How its last process ended."""
    known = {
        "exec-condition": "a condition of its unit does not hold",
        "oom-kill": "out of memory",
        "protocol": "it never said that it was ready",
        "resources": "systemd could not set it up, often a missing file",
        "start-limit-hit": "too many starts in a row",
        "timeout": "it took too long",
        "watchdog": "its watchdog was not fed: it hung",
    }
    if unit.result in known:
        return f" ({known[unit.result]})"
    if unit.killed and unit.exit_status:
        try:
            name = signal.Signals(unit.exit_status).name
        except ValueError:
            name = str(unit.exit_status)
        return f" (killed by {name})"
    if not unit.exit_status:
        return ""
    meaning = _EXIT_STATUSES.get(unit.exit_status)
    return f" (exit status {unit.exit_status}{': ' + meaning if meaning else ''})"


def _consequence(postmortem: Postmortem) -> str:
    if postmortem.unit is not None and postmortem.unit.load_state == "not-found":
        return "Whatever Sidekiq runs here is run by hand."
    return (
        "Until it is back nothing is started, drained or stopped by it; what runs goes on, and jobs with it."
    )


def _journal(postmortem: Postmortem, width: int, symbols: Symbols) -> Lines:
    if postmortem.unit is None or postmortem.unit.load_state == "not-found":
        return []
    if postmortem.journal is None:
        head = Text.assemble("  ", sign(Level.UNKNOWN, symbols), " ")
        return hanging(head, sentence(postmortem.journal_why), width, lines_max=3, symbols=symbols)
    if not postmortem.journal:
        return [Text("  none in the journal", QUIET)]
    lines: Lines = []
    for line in postmortem.journal:
        lines += hanging(Text("  "), line, width, lines_max=2, symbols=symbols)
    return lines


def _workers(postmortem: Postmortem, width: int, symbols: Symbols) -> Lines:
    if postmortem.workers is None:
        return [Text("  ? systemd can't say", STYLES[Level.UNKNOWN])] if postmortem.unit else []
    if not postmortem.workers:
        line = Text.assemble(
            "  ", sign(Level.BAD, symbols), " none runs: no job of any queue is done by this host"
        )
        line.truncate(width)
        return [line]
    groups: dict[tuple[str, str], list[Worker]] = {}
    for worker in postmortem.workers:
        groups.setdefault((worker.active_state, worker.sub_state), []).append(worker)
    lines: Lines = []
    for (active, sub), workers in groups.items():
        level = Level.BAD if active == "failed" else Level.OK if active in _UP else Level.MOVING
        head = Text.assemble("  ", sign(level, symbols), f" {len(workers)} {active} ({sub}): ")
        lines += hanging(head, _named(workers), width, lines_max=3, symbols=symbols)
    return lines


def _named(workers: list[Worker]) -> str:
    instances = [w.unit.removeprefix(_TEMPLATE) for w in workers if w.unit.startswith(_TEMPLATE)]
    plain = [int(number) for number in instances if number.isdecimal() and len(number) <= 4]
    names = (
        [f"{_TEMPLATE}N for N = {numbers(plain)}"] if len(plain) > 2 else [f"{_TEMPLATE}{n}" for n in plain]
    )
    odd = [w.unit for w in workers if w.unit.removeprefix(_TEMPLATE) not in map(str, plain)]
    return ", ".join(names + odd)


def _cures(postmortem: Postmortem, width: int, symbols: Symbols) -> Lines:
    unit = postmortem.unit
    log = ("journalctl -u fleetd -e", "its whole log")
    check = ("fleetctl check-config", "every mistake in its configuration")
    by_hand = (f"systemctl start {_TEMPLATE}N", "a worker by hand, kept for a while")
    allow = ("systemctl reset-failed fleetd", "forget how often it failed")
    restart = ("systemctl restart fleetd", "workers keep running")
    if unit is None:
        cures = [("ps -C fleetd,sidekiq", "what runs without systemd")]
    elif unit.load_state == "not-found":
        cures = [("systemctl list-unit-files 'fleetd*'", "what is installed")]
    elif postmortem.running:
        cures = [("systemctl status dbus", "the bus that fleetd answers on"), log, restart]
    elif unit.active_state == "inactive":
        cures = [("systemctl start fleetd", "it adopts what runs"), by_hand]
    elif unit.active_state in ("activating", "deactivating") and not unit.restarts:
        cures = [("fleetctl status --watch", "see it come")]
    else:
        cures = [log, check, allow, restart, by_hand]
    lines: Lines = []
    cells = max(len(command) for command, _ in cures)
    for command, why in cures:
        head = Text.assemble("  ", (command, "bold cyan"), " " * (cells - len(command) + 2))
        lines += hanging(head, Text(why, QUIET), width, lines_max=2, symbols=symbols)
    return lines


def sentence_lines(text: str, *, width: int, symbols: Symbols) -> Lines:
    """One thing that went wrong and nothing else to show."""
    head = Text.assemble(sign(Level.BAD, symbols), " ")
    return hanging(head, clean(text, ascii_only=symbols.ascii_only), width, lines_max=20, symbols=symbols)
