"""Units that are somebody else's, or changed so that fleetd does not run them: what is wrong, and the way over."""

from __future__ import annotations

from fleetd.core.model.facts import UnfitUnit, UnitFault, UnitRule
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.unit_rules.judge import RUNTIME_SECONDS_MIN, STOP_SECONDS_MIN

#: Where ours are, and what puts them there again: units/install.sh, or the Debian package.
_OURS = {
    "/usr/local/lib/systemd/system/": "sudo make install   # in fleetd's checkout",
    "/usr/lib/systemd/system/": "sudo apt-get install --reinstall fleetd",
}
#: Links by which a boot starts workers: they are fleetd-render's, whoever the unit is of.
BOOT_LINKS = "*/mastodon-workers-boot.target.wants/*"
#: Faults that one sentence names.
_NAMED_MAX = 4

#: What would happen, by what is wrong. docs/other-mastodons.md has the table.
WHY = {
    UnitRule.UNREADABLE: "fleetd can't read it, so what it does is unknown",
    UnitRule.SETTINGS: "it would start without fleetd's settings, on every queue, the scheduler's included",
    UnitRule.SETTINGS_OPTIONAL: "without its settings it would start all the same, on every queue",
    UnitRule.SETTINGS_LATER: "what that file sets wins over fleetd's settings, unless fleetd's line is below it too",
    UnitRule.COMMANDS: "systemd refuses a unit with two commands",
    UnitRule.ARGUMENTS: "Sidekiq would not get its queues, threads and tag",
    UnitRule.OPTIONS: "it would set queues, threads, tag or timeout otherwise than $SIDEKIQ_ARGS",
    UnitRule.PRIVILEGES: "Sidekiq would run with root's rights",
    UnitRule.SHELL: "the shell stays the main process, and a quiet never reaches Sidekiq, unless that line has an exec",
    UnitRule.BETWEEN: "the program in between gets the signals that are meant for Sidekiq",
    UnitRule.TYPE: "systemd would not know when Sidekiq is ready, and a quiet during its boot is lost",
    UnitRule.CONDITION: "where it is not met, the unit looks as if somebody had stopped it",
    UnitRule.KILL_MODE: "a stop would end ffmpeg under running jobs, or leave processes behind",
    UnitRule.SIGNAL: "a stop would not let Sidekiq push its jobs back",
    UnitRule.LEFT_OVER: "what systemd shows would not be what runs",
    UnitRule.STOP_TIMEOUT: f"it would be killed before Sidekiq has pushed its jobs back, {STOP_SECONDS_MIN} s",
    UnitRule.STOP_COMMAND: "it may end Sidekiq before that has pushed its jobs back",
    UnitRule.RESTART: "systemd would not start it again whenever it dies",
    UnitRule.OOM: "a shortage of memory would kill the worker with all its jobs",
    UnitRule.WATCHDOG: "systemd would abort the busiest worker of a starved host, and its jobs would be lost",
    UnitRule.RUNTIME: f"longer jobs would start over again and again; {RUNTIME_SECONDS_MIN / 3600:.0f} h at least",
    UnitRule.CPU_TIME: "the kernel would kill it with its jobs after that much work",
    UnitRule.SYSTEM_CALL: "a forbidden system call would kill it with all its jobs",
    UnitRule.DEPENDENCY: "when that unit is stopped, it stops too, and looks as if somebody had stopped it",
    UnitRule.NOT_STEERED: "fleetd could not start and stop it as needed",
    UnitRule.USER: "Sidekiq would run as root",
    UnitRule.DIRECTORY: "it would not run the code that mastodon.directory in fleetd.toml names: correct one of them",
}


def unfit_words(unfit: UnfitUnit) -> str:
    """What is wrong, what follows, and what to run."""
    if unfit.foreign:
        return f"{headline(unfit)}. `sudo fleetctl check-config` says what it lacks, and the lines that put ours there"
    named = "; ".join(map(fault_words, unfit.faults[:_NAMED_MAX]))
    left = len(unfit.faults) - _NAMED_MAX
    more = f"; and {left} more, see fleetctl check-config" if left > 0 else ""
    return f"{headline(unfit)}: {named}{more}. Then: {' && '.join(way_over(unfit))}"


def headline(unfit: UnfitUnit) -> str:
    """What is wrong with this unit, and what follows."""
    none = "fleetd starts, ends and replaces nothing by it"
    if unfit.foreign:
        return f"{unfit.file} is not fleetd's {unfit.unit} but somebody else's, and {none}"
    return f"{unfit.unit} was changed, and {none}"


def fault_words(fault: UnitFault) -> str:
    """`KillMode=control-group in /etc/…: a stop would …; write KillMode=mixed`."""
    name = fault.write.partition("=")[0]
    if fault.rule == UnitRule.UNREADABLE:
        return f"{fault.file}: {WHY[fault.rule]}: run {fault.write}"
    return f"{fault.says or f'no {name}='} in {fault.file}: {WHY[fault.rule]}; write {fault.write}"


def way_over(unfit: UnfitUnit) -> tuple[str, ...]:
    """The commands that make it a unit of ours, one a line; for a changed one, those after its file is mended."""
    if not unfit.foreign:
        return ("systemctl daemon-reload",)
    for directory, again in _OURS.items():
        if unfit.file.startswith(directory):
            return (again,)
    running = {TEMPLATE_UNIT: "'mastodon-sidekiq@*'", SCHEDULER_UNIT: SCHEDULER_UNIT}.get(unfit.unit, unfit.unit)
    # Stopped by fleetd's unit: the time that the other one gives may be too short, and jobs would be lost. A restart,
    # because a stop would be a person's order to keep them stopped.
    return (
        f"find /etc/systemd/system -lname '{unfit.file}' -not -path '{BOOT_LINKS}' -delete",
        f"mv {unfit.file} /root/",
        "systemctl daemon-reload",
        "systemctl restart fleetd-render",
        f"systemctl try-restart {running}",
    )
