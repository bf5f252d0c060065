"""A profile whose program exits at once, beside one that works. Shared by the short and the long test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fleetd.core.model.status import ProfileStatus, Status
from tests.support.lab.fleet import Fleet, booted

LAST_WORDS = "cannot load such file -- bundler (LoadError)"
BROKEN = (5, 6)
CONFIG = """
[scheduler]
place = "elsewhere"
[profiles.sound]
order = "default-first"
threads = 3
instances = "1-2"
min = 1
[profiles.broken]
queues = ["pull"]
threads = 3
instances = "5-6"
min = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
"""


@contextmanager
def fleet_with_a_broken_profile(more: str = "", *, lives_seconds: int = 0) -> Iterator[Fleet]:
    """A fleet whose sound profile serves while the broken one is tried. `more`: further lines for the broken units."""
    program = f"echo '{LAST_WORDS}' >&2; sleep {lives_seconds}; exit 1; exec true $SIDEKIQ_ARGS"
    with booted(CONFIG) as fleet:
        for number in BROKEN:
            fleet.worker.write(
                f"/etc/systemd/system/mastodon-sidekiq@{number}.service.d/99-broken.conf",
                f'[Service]\nExecStart=\nExecStart=/bin/sh -c "{program}"\n{more}',
            )
        fleet.worker.reload_systemd()
        fleet.start()
        fleet.wait("the sound one serves", lambda s: profile(s, "sound").serving_instances == 1)
        yield fleet


def profile(status: Status, name: str) -> ProfileStatus:
    return next(p for p in status.profiles if p.name == name)


def tries(fleet: Fleet, number: int) -> list[float]:
    """The Unix times at which the broken program ran."""
    said = fleet.said(f"mastodon-sidekiq@{number}")
    return [line.at for line in said if line.message == LAST_WORDS]


def orders(fleet: Fleet, number: int) -> list[float]:
    """The Unix times at which fleetd started it."""
    return [at for at, started in fleet.steps("start") if started == number]


def says_why(fleet: Fleet) -> None:
    """`fleetctl status` shows the state, the cause and the unit's last lines of the journal."""
    # Wait out a retry that is under way.
    fleet.wait(
        "it is said",
        lambda s: any(c.code == "start_failed" and "@5" in c.sentence for c in profile(s, "broken").clamps),
    )
    fleet.worker.wait_until("fleetctl says it", lambda: all(words in shown(fleet) for words in ("failed", LAST_WORDS)))


def shown(fleet: Fleet) -> str:
    """What `fleetctl status` prints."""
    return fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"], env={"COLUMNS": "200"}).stdout
