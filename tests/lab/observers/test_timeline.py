"""What follows from what observers saw; no host is needed for that."""

from __future__ import annotations

from pathlib import Path

from lab.observers.cgroups import Looker
from lab.observers.timeline import Alive, Counted, Look, Timeline

OURS = "mastodon-sidekiq-scheduler.service"


def scheduler(host: str, *, frozen: bool = False, pid: int = 0) -> Alive:
    return Alive(host, OURS, pid or sum(map(ord, host)), frozen)


def timeline(*looks: list[Alive]) -> Timeline:
    """A look a second, each of which takes a tenth."""
    return Timeline([Look(at, at + 0.1, frozenset(alive)) for at, alive in enumerate(looks)], [])


ONE = [scheduler("w1")]
TWO = [scheduler("w1"), scheduler("w2")]


def test_two_at_once_are_told_with_hosts_and_times() -> None:
    [span] = timeline(ONE, TWO, TWO, ONE).together()
    assert (span.hosts, span.begun, span.ended) == (("w1", "w2"), 1, 2.1)
    assert (span.not_before, span.not_after) == (0, 3.1)


def test_one_after_the_other_are_not_two_at_once() -> None:
    assert timeline(ONE, [scheduler("w2")]).together() == []


def test_two_on_one_host_are_two() -> None:
    stock = Alive("w1", "mastodon-sidekiq.service", 5, frozen=False)
    [span] = timeline(ONE, [*ONE, stock], ONE).together()
    assert span.hosts == ("w1", "w1")


def test_a_frozen_scheduler_counts_only_where_asked() -> None:
    seen = timeline(ONE, [scheduler("w1", frozen=True), scheduler("w2")], TWO)
    assert [span.begun for span in seen.together()] == [2]
    assert [span.begun for span in seen.together(frozen=True)] == [1]


def test_times_without_a_scheduler() -> None:
    first, last = timeline([], ONE, [], [], ONE).without()
    assert (first.begun, first.not_after) == (0, 1.1)
    assert (last.begun, last.ended, last.not_before, last.not_after) == (2, 3.1, 1, 4.1)
    assert timeline(ONE).without() == []


def test_each_start_tells_who_lived_beside_it() -> None:
    again = scheduler("w1", pid=7)
    found = timeline(ONE, TWO, [again]).scheduler_starts()
    assert [(start.process.host, [one.host for one in start.beside]) for start in found] == [("w2", ["w1"]), ("w1", [])]
    assert (found[0].not_before, found[0].seen) == (0, 1.1)


def test_two_that_begin_together_are_beside_nobody_but_seen_together() -> None:
    seen = timeline([], TWO)
    assert [start.beside for start in seen.scheduler_starts()] == [(), ()]
    assert len(seen.together()) == 1


def test_a_part_of_it_and_its_gaps() -> None:
    seen = timeline(ONE, TWO, ONE, ONE)
    assert seen.since(2).together() == []
    assert len(seen.until(1.5).looks) == 2
    assert seen.longest_gap == 1.1


def test_the_most_connections_by_name_and_at_once() -> None:
    counts = [
        Counted(0, 0.1, {"mastodon-sidekiq@1.w1": 5, "web": 9}),
        Counted(1, 1.1, {"mastodon-sidekiq@1.w1": 3, "mastodon-sidekiq@1.w2": 4}),
    ]
    seen = Timeline([], counts)
    assert seen.most_open() == {"mastodon-sidekiq@1.w1": 5, "mastodon-sidekiq@1.w2": 4, "web": 9}
    assert seen.most_open_at_once() == 7
    assert seen.most_open_at_once("mastodon-sidekiq@1.w1") == 5


def unit(lab: Path, path: str, pids: dict[int, str], *, frozen: bool = False) -> None:
    folder = lab / path
    folder.mkdir(parents=True)
    (folder / "cgroup.events").write_text(f"populated {int(bool(pids))}\nfrozen {int(frozen)}\n")
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for pid, command in pids.items():
        (lab.parent / "proc" / str(pid)).mkdir(parents=True)
        (lab.parent / "proc" / str(pid) / "cmdline").write_text(command.replace(" ", "\0"))


def test_a_look_finds_sidekiq_and_not_the_checks_before_it(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    template = "system.slice/system-mastodon\\x2dsidekiq.slice"
    unit(lab, f"w1/{template}/mastodon-sidekiq@1.service", {11: "ruby /usr/bin/sidekiq -r ./app.rb", 12: "ffmpeg -i"})
    unit(lab, f"w1/{template}/mastodon-sidekiq@2.service", {13: "/bin/sh -c check-sidekiq"})
    unit(lab, f"w1/{template}/mastodon-sidekiq@3.service", {})
    unit(lab, f"w2/system.slice/{OURS}", {21: "sh -c x"}, frozen=True)
    unit(lab, "w2/system.slice/redis-server.service", {22: "redis"})
    looker = Looker(lab, tmp_path / "proc")
    assert looker.look() == [("w1", "mastodon-sidekiq@1.service", 11, False)]
    (tmp_path / "proc/21/cmdline").write_text("sidekiq 6.4.1 live [0 of 5 busy]\0")
    assert sorted(looker.look())[1:] == [("w2", OURS, 21, True)]


def test_a_lab_that_has_not_booted_has_nobody(tmp_path: Path) -> None:
    assert Looker(tmp_path / "none").look() == []
