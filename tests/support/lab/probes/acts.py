"""What an admin does in a week, each act with what it makes true: `Beside` follows."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.jobs import load
from lab.jobs.load import Load, Phase
from lab.setup import mastodon
from tests.support.lab.fleet import FLEETCTL, Fleet
from tests.support.lab.probes.claims import Beside
from tests.support.lab.probes.compare import falsehoods
from tests.support.lab.probes.look import SCHEDULER, TARGET

CONFIG = """
[scheduler]
place = "here"
threads = 2

[profiles.default-first]
order = "default-first"
threads = 4
instances = "{numbers}"
min = 1

[profiles.pull]
queues = ["pull"]
threads = {threads}
instances = "11-12"
min = 1

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 10
"""
MANY, FEW = "1-5", "1-2"


@dataclass
class Admin:
    """One that acts on a fleet. `rng` picks numbers; which act comes next is the caller's."""

    fleet: Fleet
    rng: random.Random
    numbers: str = MANY
    threads: int = 4
    beside: Beside = field(init=False)

    def __post_init__(self) -> None:
        self.beside = Beside(config=tomllib.loads(self.config))

    @property
    def config(self) -> str:
        return CONFIG.format(numbers=self.numbers, threads=self.threads)

    def act(self, name: str) -> None:
        """Do it, and note what it makes true."""
        ACTS[name](self)

    # How

    def fleetctl(self, *words: str) -> None:
        self.fleet.worker.run([FLEETCTL, *words], timeout=120)

    def release(self, number: int) -> None:
        """Whatever was pinned by what came before; there may be nothing."""
        self.fleet.worker.run([FLEETCTL, "release", str(number)], check=False)

    def systemctl(self, *words: str) -> None:
        self.fleet.worker.run(["systemctl", *words], timeout=120)

    def configure(self) -> None:
        self.fleet.configure(self.config)
        self.systemctl("reload", "fleetd")
        self.beside.config = tomllib.loads(self.config)
        self.beside.refused = False

    def up(self) -> int:
        """One of the instances that are up."""
        return self.rng.choice(sorted(self.fleet.up()))

    def any_up(self) -> bool:
        return bool(self.fleet.up())

    def wait_for_ticks(self, count: int = 3) -> None:
        """So many ticks more."""
        now = self.fleet.status().ticks_total
        self.fleet.wait(f"{count} ticks", lambda s: not now <= s.ticks_total < now + count)


def _kill(admin: Admin) -> None:
    if admin.any_up():
        admin.fleet.worker.kill(f"mastodon-sidekiq@{admin.up()}")
        admin.beside.killed += 1


def _kill_fleetd(admin: Admin) -> None:
    if admin.beside.refused:
        return  # it would not come back, and there would be no status
    admin.systemctl("kill", "--signal=KILL", "fleetd")
    admin.systemctl("restart", "fleetd")


def _stop_and_start(admin: Admin) -> None:
    if not admin.any_up():
        return
    number = admin.up()
    admin.systemctl("stop", f"mastodon-sidekiq@{number}")
    admin.wait_for_ticks()
    admin.systemctl("start", f"mastodon-sidekiq@{number}")
    admin.release(number)


def _drain(admin: Admin) -> None:
    if not admin.any_up():
        return
    number = admin.up()
    admin.fleetctl("drain", str(number), "--wait", "--for", "1h")
    admin.release(number)


def _set(admin: Admin) -> None:
    count = admin.rng.choice([1, 2])
    admin.fleetctl("set", "default-first", str(count), "--for", "1h")
    admin.beside.sets["default-first"] = count


def _auto(admin: Admin) -> None:
    admin.fleetctl("set", "default-first", "auto")
    admin.beside.sets.clear()


def _pause(admin: Admin) -> None:
    if "pause" not in admin.beside.holds:
        admin.fleetctl("pause", "--for", "1h", "--reason", "looking")
        admin.beside.holds.add("pause")


def _resume(admin: Admin) -> None:
    if admin.beside.holds & {"pause", "upgrade"}:
        admin.fleetctl("resume")
        admin.beside.holds -= {"pause", "upgrade"}


def _lower(admin: Admin) -> None:
    admin.numbers = FEW
    admin.configure()


def _raise(admin: Admin) -> None:
    admin.numbers = MANY
    admin.configure()


def _threads(admin: Admin) -> None:
    admin.threads = 7 - admin.threads
    admin.configure()


def _break_config(admin: Admin) -> None:
    admin.fleet.worker.write("/etc/fleetd/fleetd.toml", f"{admin.config}\n[nonsense]\n", mode=0o640)
    admin.fleet.worker.run(["chgrp", "fleetd", "/etc/fleetd/fleetd.toml"])
    admin.fleet.worker.run(["systemctl", "reload", "fleetd"], check=False)
    admin.beside.refused = True


def _mend_config(admin: Admin) -> None:
    admin.configure()


def _redis_away(admin: Admin) -> None:
    admin.fleet.main.stop("redis-server")


def _redis_back(admin: Admin) -> None:
    admin.fleet.main.start("redis-server")


def _postgres_away(admin: Admin) -> None:
    admin.fleet.main.run(["systemctl", "stop", "postgresql*"])


def _postgres_back(admin: Admin) -> None:
    admin.fleet.main.start("postgresql")


def _stop_target(admin: Admin) -> None:
    admin.systemctl("stop", TARGET)
    admin.beside.holds.add("stopped")


def _start_target(admin: Admin) -> None:
    admin.systemctl("start", TARGET)
    admin.beside.holds.discard("stopped")


def _restart_scheduler(admin: Admin) -> None:
    admin.systemctl("restart", SCHEDULER)


def _surge(admin: Admin) -> None:
    load.enqueue(admin.fleet.main, "default", [admin.rng.uniform(1, 4) for _ in range(40)])


def _long_jobs(admin: Admin) -> None:
    load.enqueue(admin.fleet.main, "pull", [20.0] * 3)


def _drop_in(admin: Admin) -> None:
    folder = "/etc/systemd/system/mastodon-sidekiq@.service.d"
    admin.fleet.worker.write(f"{folder}/90-mine.conf", f"[Unit]\nDocumentation=man:x({admin.rng.randint(1, 9)})\n")
    admin.systemctl("daemon-reload")


def _upgrade(admin: Admin) -> None:
    patch = int(admin.fleet.status().mastodon_version.rpartition(".")[2] or 3) + 1
    mastodon.upgrade(admin.fleet.worker, f"4.5.{patch}", gems_missing=False)
    admin.beside.holds.add("upgrade")


def _roll(admin: Admin) -> None:
    if not admin.beside.holds & {"pause", "stopped"}:
        admin.fleetctl("restart", "--no-wait", "pull")
        admin.beside.holds.discard("upgrade")


def _reboot(admin: Admin) -> None:
    if admin.beside.refused:
        return
    admin.fleet.worker.reboot()
    admin.beside.sets.clear()
    admin.beside.holds.clear()
    admin.beside.killed = 0


def _restart_fleetd(admin: Admin) -> None:
    if admin.beside.refused:
        return
    admin.systemctl("restart", "fleetd")


def _needrestart(admin: Admin) -> None:
    admin.systemctl("try-restart", "mastodon-sidekiq@*")


def _quiet_by_hand(admin: Admin) -> None:
    if not admin.any_up():
        return
    number = admin.up()
    admin.systemctl("kill", "--kill-who=main", "--signal=TSTP", f"mastodon-sidekiq@{number}")
    admin.wait_for_ticks(6)
    admin.systemctl("restart", f"mastodon-sidekiq@{number}")
    admin.release(number)


ACTS: dict[str, Callable[[Admin], None]] = {
    name.removeprefix("_"): act
    for name, act in {**globals()}.items()
    if name.startswith("_") and getattr(act, "__annotations__", {}).get("admin") == "Admin"
}
#: What each of these leaves is ended by the act that follows it.
PAIRS = {
    "pause": "resume",
    "set": "auto",
    "lower": "raise",
    "break_config": "mend_config",
    "redis_away": "redis_back",
    "postgres_away": "postgres_back",
    "stop_target": "start_target",
    "upgrade": "roll",
}


def week(seed: int, count: int) -> list[str]:
    """So many acts in seeded order; what an act leaves is ended before the week is."""
    rng = random.Random(seed)
    free = sorted(ACTS.keys() - set(PAIRS.values()))
    found: list[str] = []
    left: list[str] = []
    while len(found) + len(left) < count:
        if left and rng.random() < 0.5:
            found.append(left.pop())
            continue
        act = rng.choice([a for a in free if PAIRS.get(a) not in left])
        found.append(act)
        if act in PAIRS:
            left.append(PAIRS[act])
    return found + left[::-1]


def under_way(fleet: Fleet) -> None:
    """A steady flow of jobs, far below what one instance of each profile can do."""
    load.start(fleet.main, Load([Phase(1800, {"default": 4, "push": 2, "pull": 1})], job_scale=0.3, limit=15_000))


def work_through(fleet: Fleet, seed: int, count: int) -> dict[str, dict[str, list[str]]]:
    """Act after act; returns what was said and stayed wrong, by act. It ends after the third of them."""
    admin = Admin(fleet, random.Random(seed))
    found: dict[str, dict[str, list[str]]] = {}
    for number, act in enumerate(["nothing", *week(seed, count)]):
        if act != "nothing":
            admin.act(act)
        said = falsehoods(fleet, admin.beside)
        if said:
            found[f"{number} {act}"] = said
        if len(found) == 3:
            break
    return found
