"""The screen when fleetd does not answer: what happened, what still runs, what to do."""

from __future__ import annotations

import signal
from dataclasses import replace

from rich.text import Text

from fleetd.cli.advice.postmortem import Postmortem, UnitState, Worker
from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.safe_text import clean, cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES
from fleetd.words.formatting import duration, numbers, sentence, times

WIDTH_MAX = 160
_TEMPLATE = "mastodon-sidekiq@"
_UP = ("active", "reloading", "activating")


def down_screen(postmortem: Postmortem, page: Page) -> Lines:
    """The whole screen."""
    postmortem = cleaned(postmortem, ascii_only=page.symbols.ascii_only)
    page = replace(page, width=min(page.width, WIDTH_MAX))
    unit = postmortem.unit
    level = Level.UNKNOWN if unit is None else Level.BAD
    head = page.item(level, Text(_headline(postmortem), f"bold {STYLES[level]}"))
    head += page.wrap("  ", _consequence(unit))
    if unit is None or postmortem.running:
        head += page.wrap("  ", Text(sentence(postmortem.error), QUIET))
    blocks = (
        ("fleetd's last lines in the journal", _journal_lines(postmortem, page)),
        ("Workers, which run on without fleetd", _worker_lines(postmortem, page)),
        ("What to do", _advice_lines(postmortem, page)),
    )
    return page.joined([head, *([Text(title, "bold"), *lines] for title, lines in blocks if lines)])


def message_screen(text: str, page: Page) -> Lines:
    """One error, if there is nothing else to show."""
    return page.item(Level.BAD, clean(text, ascii_only=page.symbols.ascii_only))


def _headline(postmortem: Postmortem) -> str:
    unit = postmortem.unit
    if unit is None:
        return f"fleetd does not answer, and systemd can't be asked about it: {sentence(postmortem.unit_why)}"
    if unit.load_state == "not-found":
        return "fleetd is not installed as a service on this host: systemd knows no fleetd.service."
    since = f" for {duration(unit.since_age_seconds)}" if unit.since_age_seconds is not None else ""
    if postmortem.running:
        return f"fleetd has been running{since}, but does not answer."
    restarts = f"; systemd restarted it {times(unit.restarts, 'time')}" if unit.restarts else ""
    if unit.active_state == "activating" and unit.sub_state.startswith("auto-restart"):
        ended = "keeps ending" if unit.restarts else "has ended"
        return (
            f"fleetd {ended}{_how_it_ended(unit)}{restarts}{' and' if unit.restarts else ', and systemd'} tries again."
        )
    if unit.active_state == "activating":
        return f"fleetd has been starting{since}, and does not answer yet{restarts}."
    if unit.active_state == "deactivating":
        return f"fleetd has been stopping{since}."
    if unit.active_state == "failed":
        return f"fleetd has failed{_how_it_ended(unit)}, down{since}{restarts}."
    if unit.since_age_seconds is None:  # systemd has forgotten: nothing keeps the unit loaded
        return "fleetd is not running: it was stopped, or not started since boot."
    return f"fleetd is not running: it was stopped {duration(unit.since_age_seconds)} ago."


#: Exit statuses of systemd itself, from before the program runs (systemd.exec(5), "Process Exit Codes").
_EXIT_STATUSES = {
    203: "its program can't be run",
    217: "its user does not exist",
    226: "its sandbox could not be set up",
    243: "a credential could not be loaded",
}
#: What Result= of a unit means (systemd.service(5)). For other results the exit status says more.
_RESULTS = {
    "exec-condition": "a condition of its unit does not hold",
    "oom-kill": "out of memory",
    "protocol": "it never said that it was ready",
    "resources": "systemd could not set it up, often because a file is missing",
    "start-limit-hit": "too many starts in a row",
    "timeout": "it took too long",
    "watchdog": "it hung, and its watchdog timed out",
}


def _how_it_ended(unit: UnitState) -> str:
    if unit.result in _RESULTS:
        return f" ({_RESULTS[unit.result]})"
    if not unit.exit_status:
        return ""
    if unit.killed:
        known = {s.value: s.name for s in signal.Signals}
        return f" (killed by {known.get(unit.exit_status, f'signal {unit.exit_status}')})"
    meaning = _EXIT_STATUSES.get(unit.exit_status)
    return f" (exit status {unit.exit_status}{': ' + meaning if meaning else ''})"


def _consequence(unit: UnitState | None) -> str:
    if unit is not None and unit.load_state == "not-found":
        return "Sidekiq processes on this host are not fleetd's."
    return "Until it is back, fleetd starts, drains and stops nothing; workers go on, and so do their jobs."


def _journal_lines(postmortem: Postmortem, page: Page) -> Lines:
    if postmortem.unit is None or postmortem.unit.load_state == "not-found":
        return []
    if postmortem.journal is None:
        return page.item(Level.UNKNOWN, sentence(postmortem.journal_why), indent=2)
    if not postmortem.journal:
        return [Text("  none", QUIET)]
    return [row for line in postmortem.journal for row in page.wrap("  ", line)]


def _worker_lines(postmortem: Postmortem, page: Page) -> Lines:
    if postmortem.workers is None:
        return page.item(Level.UNKNOWN, "systemd can't say", indent=2) if postmortem.unit else []
    if not postmortem.workers:
        return page.item(Level.BAD, "none runs: this host does no jobs", indent=2)
    groups: dict[tuple[str, str], list[Worker]] = {}
    for worker in postmortem.workers:
        groups.setdefault((worker.active_state, worker.sub_state), []).append(worker)
    lines: Lines = []
    for (active, sub), workers in groups.items():
        level = Level.BAD if active == "failed" else Level.OK if active in _UP else Level.MOVING
        lines += page.item(level, f"{len(workers)} {active} ({sub}): {_named(workers)}", indent=2)
    return lines


def _named(workers: list[Worker]) -> str:
    """`mastodon-sidekiq@N for N = 1-3, mastodon-sidekiq-scheduler`."""
    units = [worker.unit for worker in workers]
    numbered = {u: u.removeprefix(_TEMPLATE) for u in units if u.startswith(_TEMPLATE)}
    plain = {u: int(n) for u, n in numbered.items() if n.isdecimal() and len(n) <= 4}
    if len(plain) <= 2:
        return ", ".join(units)
    others = [unit for unit in units if unit not in plain]
    return ", ".join([f"{_TEMPLATE}N for N = {numbers(list(plain.values()))}", *others])


def _advice_lines(postmortem: Postmortem, page: Page) -> Lines:
    advice = _advice(postmortem.unit, running=postmortem.running)
    cells = max(len(command) for command, _ in advice)
    lines: Lines = []
    for command, why in advice:
        lines += page.wrap(Text.assemble("  ", (f"{command:<{cells}}", "bold cyan"), "  "), Text(why, QUIET))
    return lines


def _advice(unit: UnitState | None, *, running: bool) -> list[tuple[str, str]]:
    """Commands, and what each is for."""
    log = ("journalctl -u fleetd -e", "its whole log")
    by_hand = (f"systemctl start {_TEMPLATE}N", "start a worker by hand; fleetd keeps it for a while")
    restart = ("systemctl restart fleetd", "workers keep running")
    if unit is None:
        return [("ps -C fleetd,sidekiq", "what runs without systemd")]
    if unit.load_state == "not-found":
        return [("systemctl list-unit-files 'fleetd*'", "what is installed")]
    if running:
        return [("systemctl status dbus", "the bus over which fleetd answers"), log, restart]
    if unit.active_state == "inactive":
        return [("systemctl start fleetd", "it adopts the workers that run"), by_hand]
    if unit.active_state in ("activating", "deactivating") and not unit.restarts:
        return [("fleetctl status --watch", "wait until it answers")]
    return [
        log,
        ("fleetctl check-config", "every mistake in its configuration"),
        ("systemctl reset-failed fleetd", "let systemd start it again after too many failures"),
        restart,
        by_hand,
    ]
