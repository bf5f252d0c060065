"""`fleetctl doctor`: what it makes of the ledger that hosts share: whose, who is in it, names, places, releases."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from fleetd import __version__
from fleetd.adapters.redis.server_look import ServerSeen
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.hosts import fleet_checks
from fleetd.app.doctor.redis_seen import RedisSeen
from fleetd.config import parse
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.model.facts import CodeStamp, Known, ProcessFacts, Snapshot
from fleetd.core.model.policy_tables import Policy
from tests.support.builders.readings import machine, process, sidekiq, snapshot, tag
from tests.support.fleet.ledgers import CLOCK_MS, FLEET, TIME_MS, entry, ledger, report

OWN = "kernel-1.mark-1"


def policy_of(place: str = "auto", takeover: int = 300) -> Policy:
    scheduler = f'[scheduler]\nplace = "{place}"\ntakeover_seconds = {takeover}\n'
    return parse('[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n' + scheduler).policy


POLICY = policy_of()


def shot(*processes: ProcessFacts) -> Snapshot:
    host = structs.replace(machine(POLICY), code=CodeStamp(digest="code", version="4.5.3"))
    return snapshot(POLICY, redis=sidekiq(processes=processes), host=host)


def found(
    state: LedgerState | None,
    *processes: ProcessFacts,
    policy: Policy = POLICY,
    fleet: str = FLEET,
    now_ms: int | None = TIME_MS,
    seen: Snapshot | None = None,
    **fields: Any,
) -> list[Check]:
    given: dict[str, Any] = {"boot_id": OWN, "hostname": "w1"} | fields
    redis = RedisSeen(server=ServerSeen(now_ms=now_ms), ledger=state, **given)
    return list(fleet_checks(policy, fleet, seen or shot(*processes), redis))


def wrong(state: LedgerState | None, *processes: ProcessFacts, **given: Any) -> list[tuple[str, str]]:
    return [(check.verdict, check.what) for check in found(state, *processes, **given) if check.verdict != "ok"]


def own(**changes: Any) -> Entry:
    return entry(report("w1"), boot_id=OWN, **changes)


def two(w2: Entry | None = None, **changes: Any) -> LedgerState:
    return structs.replace(ledger(w1=own(), w2=w2 or entry(report("w2"))), **changes)


def test_a_fleet_in_order_is_told_in_two_lines() -> None:
    [who, places] = found(two())
    assert (who.verdict, who.subject) == ("ok", "the fleet")
    assert who.what == f"{FLEET}: w1 and w2 share it; w1 leads; w1 has the scheduler"
    assert (places.verdict, places.what) == ("ok", "place: w1 auto, w2 auto")


def test_one_host_is_told_in_one() -> None:
    [check] = found(ledger(w1=own()))
    assert (check.verdict, check.what) == ("ok", f"{FLEET}: w1 is the only host")
    [check] = found(ledger(w1=own(), w2=entry(None, gone=True)))
    assert check.what == f"{FLEET}: w1 is the only host"


def test_before_any_fleetd_ran_there_is_none() -> None:
    [check] = found(None)
    assert (check.verdict, check.what) == ("ok", "no host has told anything yet; the first fleetd that runs does")
    assert wrong(None, process(tag(1, host="w2"))) == [
        ("look", "workers of w2 beat, and the hosts' ledger in Redis is empty")
    ]


def test_one_that_can_not_be_read_is_said_once() -> None:
    assert wrong(None, ledger_why="not written by fleetd") == [("broken", "not written by fleetd")]
    without_right = RedisSeen(server=ServerSeen(missing=("+hgetall",)), ledger_why="may not")
    assert list(fleet_checks(POLICY, FLEET, shot(), without_right)) == [], "the rights are said already"
    assert list(fleet_checks(POLICY, FLEET, shot(), RedisSeen(ledger_why="away"))) == [], "Redis is said already"


def test_another_mastodons_ledger_is_refused() -> None:
    [check] = found(two(), fleet="other.example mastodon")
    assert check.verdict == "broken"
    assert check.what == (
        f"the ledger in this Redis is that of another Mastodon ({FLEET}): give each Mastodon a Redis database or "
        "namespace of its own. If it is the same one, set LOCAL_DOMAIN and DB_NAME alike on all hosts; if they changed "
        "on all, delete the key fleetd:ledger (after the namespace, if any), and the hosts make it anew"
    )
    assert "This host's is other.example mastodon" in check.why
    assert wrong(two(), fleet="", settings_hidden=True) == [], "only root can tell"


@pytest.mark.parametrize(
    ("theirs", "ours", "silent", "passed", "taken"),
    [
        (OWN, OWN, 2.0, 0, False),
        ("kernel-2.mark-9", OWN, 2.0, 0, True),
        ("kernel-1.mark-9", OWN, 2.0, 0, True),  # another container on one kernel
        ("kernel-2.mark-1", OWN, 2.0, 0, False),  # fleetd sees another kernel's id than we do
        ("kernel-1", OWN, 2.0, 0, False),  # it has no runtime directory
        ("kernel-1.mark-9", "kernel-1", 2.0, 0, False),
        ("kernel-2", "kernel-1", 2.0, 0, True),
        ("kernel-2", "", 2.0, 0, False),
        ("kernel-2", OWN, 16.0, 0, False),  # an earlier boot of ours, or one that is gone
        ("kernel-2", OWN, 2.0, 13_000, False),  # rebooted alone: the fleet clock stands
        ("", OWN, 2.0, 0, False),  # only named by others
    ],
)
def test_another_machine_with_our_name_is_known_by_its_boot(
    theirs: str, ours: str, silent: float, passed: int, *, taken: bool
) -> None:
    state = ledger(w1=entry(report("w1"), boot_id=theirs, silent_seconds=silent))
    said = wrong(state, boot_id=ours, now_ms=TIME_MS + passed)
    name = "another machine is w1 in this fleet: set fleet.host in fleetd.toml to a name of its own"
    assert said == ([("broken", name)] if taken else [])


def test_a_machine_that_is_called_like_another_host_has_copied_its_settings() -> None:
    assert wrong(two(), hostname="w2") == [("look", "this machine is called w2, and in the fleet w1")]
    assert [check.what for check in found(two(), hostname="vm-7") if "called" in check.what] == [
        "this machine is called vm-7, and in the fleet w1"
    ]
    assert wrong(two(), hostname="vm-7") == []
    assert wrong(two(), hostname="w2.m.example") == [
        ("look", "this machine is called w2.m.example, and in the fleet w1")
    ]
    assert len(found(two(), hostname="w1.m.example")) == 2


def test_one_unit_that_beats_from_two_machines() -> None:
    first = process(tag(1, host="w2"), hostname="w2", pid=10)
    clone = process(tag(1, host="w2"), hostname="w2-copy", pid=20)
    what = "mastodon-sidekiq@1 of w2 beats from w2 (pid 10) and w2-copy (pid 20)"
    assert wrong(two(), first, clone) == [("look", what)]
    assert wrong(two(), first, structs.replace(clone, beat_age_seconds=30.0)) == [], "it has ended"
    assert wrong(two(), first, process(tag(2, host="w2"), hostname="w2", pid=11)) == []


def test_a_silent_host_is_named_with_what_frees_its_connections() -> None:
    [_, check, _] = found(two(entry(report("w2"), silent_seconds=840.0)))
    assert (check.verdict, check.what) == ("look", "w2 has been silent for 14 min")
    assert "`fleetctl hosts forget w2`" in check.why
    assert wrong(two(entry(report("w2"), silent_seconds=59.0))) == []
    assert wrong(two(), now_ms=TIME_MS + 58_000) == [("look", "w2 has been silent for 60 s")], "the fleet clock stands"
    assert wrong(two(), now_ms=None) == []


def test_a_host_that_ticks_once_a_minute_is_not_silent_between_two_ticks() -> None:
    policy = structs.replace(POLICY, pace=structs.replace(POLICY.pace, tick_seconds=60.0))
    slow, w1 = report("w2", tick=60.0), entry(report("w1", tick=60.0), boot_id=OWN)

    def said(seconds: float) -> list[tuple[str, str]]:
        return wrong(ledger(w1=w1, w2=entry(slow, silent_seconds=seconds)), policy=policy)

    assert said(149.0) == [], "`fleetctl hosts forget` would refuse it as well"
    assert said(150.0) == [("look", "w2 has been silent for 2 min")]


def test_a_name_is_taken_as_long_as_the_ledger_refuses_another_machine() -> None:
    state = ledger(w1=entry(report("w1"), boot_id="kernel-2", silent_seconds=100.0))
    slow = structs.replace(POLICY, pace=structs.replace(POLICY.pace, tick_seconds=60.0))
    assert [verdict for verdict, _ in wrong(state, policy=slow)] == ["broken"]
    assert wrong(state) == []


def test_a_record_that_can_not_be_read_and_workers_that_told_nothing() -> None:
    said = wrong(two(entry(None)), process(tag(1, host="w3")))
    assert said == [
        ("look", "w2 has told nothing that this fleetd can read"),
        ("look", "workers of w3 beat, which told nothing of themselves"),
    ]


def test_gathering_is_said_only_while_another_host_is_waited_for() -> None:
    begun = {"gathering_ms": CLOCK_MS - 5000, "generation": 2}
    told = structs.replace(own(), told_generation=2)
    [(verdict, what)] = wrong(structs.replace(two(), hosts={"w1": told, "w2": two().hosts["w2"]}, **begun))
    assert (verdict, "waiting for w2" in what) == ("look", True)
    alone = structs.replace(ledger(w1=own()), **begun)
    assert wrong(alone) == []
    assert wrong(structs.replace(alone, hosts={"w1": told})) == [], "only for its shortest time"


def test_two_hosts_are_called_here() -> None:
    state = two(entry(report("w2", place="here")))
    assert wrong(state, policy=policy_of("here")) == [("look", 'w1 and w2 have place = "here"')]
    assert wrong(state, policy=policy_of("auto")) == []
    gone = ledger(w1=own(), w2=entry(report("w2", place="here"), gone=True))
    assert wrong(gone, policy=policy_of("here")) == []


def test_no_host_may_ever_run_it() -> None:
    state, elsewhere = two(entry(report("w2", place="elsewhere"))), policy_of("elsewhere")
    [(verdict, what)] = wrong(state, policy=elsewhere)
    assert (verdict, what) == ("broken", 'every host has place = "elsewhere", so fleetd starts none')
    [check] = [c for c in found(state, policy=elsewhere, seen=snapshot(POLICY)) if c.verdict != "ok"]
    assert check.verdict == "look", "whether one beats is unknown"
    theirs = process("", queues="scheduler", hostname="web")
    assert wrong(state, theirs, policy=elsewhere) == []
    assert wrong(state, structs.replace(theirs, quiet=True), policy=elsewhere) == [("broken", what)]
    ours = process(tag(0, host="w2"), queues="scheduler", hostname="w2")
    assert wrong(state, ours, policy=elsewhere) == [("broken", what)], "it is ended"
    assert wrong(two(), policy=elsewhere) == [], "w2 may"


def test_whoever_may_run_it_is_silent() -> None:
    lost = entry(report("w2", place="here"), silent_seconds=120.0)
    silent = ("look", "w2 has been silent for 2 min")
    assert wrong(two(lost)) == [silent, ("look", 'w2 has place = "here" and is silent')]
    what = 'only w2 may run it, and its fleetd is silent; every other host has place = "elsewhere"'
    assert wrong(two(lost), policy=policy_of("elsewhere")) == [silent, ("broken", what)]
    runs = process(tag(0, host="w2"), queues="scheduler", hostname="w2")
    assert wrong(two(lost), runs, policy=policy_of("elsewhere")) == [silent, ("look", what)], "only fleetd is down"


def test_takeover_and_other_settings_that_differ() -> None:
    state = two(entry(report("w2", takeover=600.0, tick=10.0)))
    said = wrong(state)
    assert said[0] == ("look", "takeover_seconds differ: w1 300, w2 600")
    assert said[1:] == [("look", "pace.tick_seconds is 10 on w2 and 5 on w1, which leads: w1's holds")]
    assert wrong(two(entry(report("w2", takeover=600.0, place="elsewhere")))) == []
    nobody = structs.replace(state, lease=structs.replace(state.lease, host=""))
    assert wrong(nobody) == said[:1]


def test_releases_that_differ() -> None:
    state = two(entry(report("w2", fleetd="0.1.0", mastodon="4.5.2")))
    assert wrong(state) == [
        ("look", f"fleetd {__version__} on w1, 0.1.0 on w2"),
        ("look", "Mastodon 4.5.3 on w1, 4.5.2 on w2"),
    ]
    unknown = snapshot(POLICY, redis=sidekiq())
    assert wrong(two(), seen=unknown) == []
    assert isinstance(shot().machine, Known)
