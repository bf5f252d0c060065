"""What systemctl and journalctl print, recorded from systemd 252."""

from __future__ import annotations

from fleetd.cli.advice.postmortem import Output

FAILED = """\
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
ExecMainStatus=1
ExecMainCode=1
NRestarts=5
StateChangeTimestamp=Sun 2025-11-23 03:12:44 UTC
StateChangeTimestampMonotonic=760000000
StatusText=
"""
WORKERS = """\
mastodon-sidekiq-scheduler.service loaded active running Mastodon Sidekiq scheduler
mastodon-sidekiq@1.service         loaded active running Mastodon Sidekiq 1
mastodon-sidekiq@10.service        loaded active running Mastodon Sidekiq 10
mastodon-sidekiq@2.service         loaded active running Mastodon Sidekiq 2
mastodon-sidekiq@3.service         loaded active running Mastodon Sidekiq 3
mastodon-sidekiq@4.service         loaded failed failed Mastodon Sidekiq 4
mastodon-sidekiq@5.service         loaded inactive dead Mastodon Sidekiq 5
"""
JOURNAL = """\
Nov 23 03:12:43 fleetd[911]: pace.tick_seconds: 0 is not a number of 1 to 60
Nov 23 03:12:44 systemd[1]: fleetd.service: Failed with result 'exit-code'.
"""


class Systemd:
    """Answers as systemctl and journalctl do. Any answer can be replaced."""

    def __init__(self, show: str = FAILED, workers: str = WORKERS, journal: Output | str = JOURNAL) -> None:
        self.show, self.workers, self.journal = show, workers, journal

    def __call__(self, arguments: tuple[str, ...]) -> Output:
        if arguments[0] == "journalctl":
            return self.journal if isinstance(self.journal, Output) else Output(status=0, text=self.journal)
        return Output(status=0, text=self.show if arguments[1] == "show" else self.workers)


def no_systemd(arguments: tuple[str, ...]) -> Output:
    """A container without systemd."""
    return Output(status=1, text="", error="System has not been booted with systemd as init system (PID 1).")


def with_facts(**facts: str) -> str:
    """The failed unit's properties, with some of them replaced."""
    lines = dict(line.split("=", 1) for line in FAILED.splitlines())
    return "\n".join(f"{key}={value}" for key, value in {**lines, **facts}.items())
