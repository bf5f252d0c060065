"""A profile whose program ends at once, beside one that is sound: what both lengths of the test share."""

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
    """The sound profile serves; the broken one is being tried. `more`: further lines for the broken units."""
    program = f"echo '{LAST_WORDS}' >&2; sleep {lives_seconds}; exit 1"
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
    """Unix times at which the broken program ran."""
    said = fleet.said(f"mastodon-sidekiq@{number}")
    return [line.at for line in said if line.message == LAST_WORDS]


def orders(fleet: Fleet, number: int) -> list[float]:
    """Unix times at which fleetd started it."""
    return [at for at, started in fleet.steps("start") if started == number]


def says_why(fleet: Fleet) -> None:
    """The status of fleetctl has the state, the cause and the unit's own last words."""
    # Not while it is just being tried again.
    fleet.wait(
        "it is said",
        lambda s: any(c.code == "start_failed" and "@5" in c.sentence for c in profile(s, "broken").clamps),
    )
    fleet.worker.wait_until("fleetctl says it", lambda: all(words in shown(fleet) for words in ("failed", LAST_WORDS)))


def shown(fleet: Fleet) -> str:
    """What `fleetctl status` prints."""
    return fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"], env={"COLUMNS": "200"}).stdout
