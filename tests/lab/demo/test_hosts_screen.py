"""The screen and the lines of three hosts, drawn from values."""

from dataclasses import replace

import pytest
from msgspec import structs
from rich.text import Text

from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.status import Event, FleetStatus, Status
from lab.demo.hosts.news import fleet_news, scheduler_news
from lab.demo.hosts.plain import FleetNews, fleet_line
from lab.demo.hosts.scene import FleetScene, FleetSeen, Look, Told, narrator
from lab.demo.hosts.screen import fleet_lines
from lab.demo.hosts.story import phases
from lab.demo.samples import Sample
from lab.demo.story import Progress
from tests.support.builders import status_examples
from tests.support.builders.fleet_hosts import host, three
from tests.support.builders.status_healthy import healthy

PHASES = {phase.name: phase for phase in phases()}


def sample(at: int, instances: dict[str, int] | None, *schedulers: str) -> Sample:
    return Sample(
        at_seconds=at,
        waiting_jobs={"default": 1200, "pull": 34},
        waits_seconds={"default": 12.0, "pull": 20.0},
        busy_threads=30,
        retries_jobs=0,
        connections=61,
        instances_by_host=instances,
        scheduler_hosts=schedulers,
    )


#: w1 loses its power after a minute; its scheduler is w2's another minute later.
SAMPLES = (
    *(sample(at, {"w1": 1, "w2": 1, "w3": 1}, "w1") for at in range(30)),
    *(sample(at, {"w1": 3, "w2": 2, "w3": 2}, "w1") for at in range(30, 60)),
    *(sample(at, {"w2": 4, "w3": 4}) for at in range(60, 120)),
    *(sample(at, {"w2": 4, "w3": 3}, "w2") for at in range(120, 130)),
)
FLEET = three(
    leader="w2",
    scheduler_host="w2",
    hosts=(
        host("w1", silent_seconds=70.0),
        host("w2", leads=True, scheduler=True),
        host("w3"),
    ),
    orders=(),
)
TOLD = tuple(Told(number, at_seconds=100.0 + number, sentence=f"w2: news {number}.") for number in range(30))


def status(name: str, *, leads: bool = False) -> Status:
    fleet = FleetStatus(leader="w2", leads=leads, hosts=(), generation=1, gathering=None, scheduler_host="w2")
    return structs.replace(healthy(), host=name, fleet=fleet)


def scene(phase: str = "power cut") -> FleetScene:
    progress = Progress(PHASES[phase], 3, 6, 43, 130)
    return FleetScene(progress, SAMPLES, status_examples.surge(), fleet=FLEET, told=TOLD)


def text(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 18), (40, 10)])
@pytest.mark.parametrize("phase", list(PHASES))
def test_the_screen_fits(width: int, height: int, phase: str, symbols: Symbols) -> None:
    for seen in (None, healthy(), status_examples.surge()):
        for fleet in (None, FLEET, three()):
            shown = replace(scene(phase), status=seen, fleet=fleet, silence="w1: fleetd does not answer: " + "x" * 300)
            lines = fleet_lines(shown, width=width, height=height, symbols=symbols)
            assert len(lines) == height
            assert all(line.cell_len <= width for line in lines)
            if symbols is ASCII:
                assert text(lines).isascii()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_screen_shows_each_host_the_scheduler_and_the_news(width: int, height: int) -> None:
    shown = text(fleet_lines(scene(), width=width, height=height, symbols=UNICODE))
    assert "POWER CUT" in shown
    assert "now 7" in shown  # instances of all hosts
    assert "now 1,234" in shown
    [first] = [line for line in shown.splitlines() if line.startswith("w1 ")]
    [second] = [line for line in shown.splitlines() if line.startswith("w2 ")]
    assert first.rstrip().endswith("no power")
    assert second.rstrip().endswith("4 instances")
    assert "70 s ago" in shown  # as fleetctl hosts shows w1
    assert "lost" in shown
    assert "Scheduler" in shown
    assert "w2: news 29." in shown
    assert "1 s ago  w2: news 29." in shown
    assert "Shortened: the scheduler" in shown


def test_where_the_scheduler_lived_is_drawn_over_time() -> None:
    def drawn(samples: tuple[Sample, ...]) -> str:
        lines = text(fleet_lines(replace(scene(), samples=samples), width=120, height=40, symbols=UNICODE)).splitlines()
        [line] = [line for line in lines if line.startswith("scheduler ")]
        return line

    line = drawn(SAMPLES)
    assert line.rstrip().endswith("on w2")
    assert "11" in line
    assert "--" in line
    assert line.index("1") < line.index("-") < line.index("2")
    assert "!" not in line
    two = drawn((*SAMPLES, sample(131, {"w1": 1, "w2": 4}, "w1", "w2")))
    assert "!" in two
    assert two.rstrip().endswith("on w1 and w2")


def test_what_is_unknown_is_not_drawn_as_zero() -> None:
    blind = replace(scene(), samples=(*SAMPLES, Sample(at_seconds=131)), status=None, fleet=None)
    lines = text(fleet_lines(blind, width=80, height=24, symbols=UNICODE)).splitlines()
    for name in ("w1", "w2", "w3", "scheduler"):
        [line] = [line for line in lines if line.startswith(f"{name} ")]
        assert line.rstrip().endswith("?")


def test_a_name_from_redis_cannot_control_the_terminal() -> None:
    evil = three(hosts=(host("\x1b[2Jw1"), host("w2")))
    shown = replace(scene(), fleet=evil, told=(Told(0, 1.0, "w2: \x1b[2J"),))
    assert "\x1b" not in text(fleet_lines(shown, width=80, height=24, symbols=UNICODE))


def test_a_line_for_a_pipe() -> None:
    line = fleet_line(scene())
    assert line.startswith(" 2:10  power cut")
    assert "1,234 jobs wait (default 12 s, target 5 s)" in line
    assert "instances w1 off w2 4 w3 3" in line
    assert "scheduler on w2" in line
    assert "connections 61 of 700" in line
    assert "scheduler on no host" in fleet_line(replace(scene(), samples=SAMPLES[:100]))
    unknown = fleet_line(replace(scene(), samples=(Sample(at_seconds=1.0),)))
    assert "instances ?" in unknown
    assert "scheduler ?" in unknown


def fleet(silent: float, *, gone: bool = False, leader: str = "w2", scheduler: str = "w2") -> FleetHosts:
    hosts = (host("w1", silent_seconds=silent, gone=gone), host("w2"), host("w3"))
    return three(leader=leader, scheduler_host=scheduler, hosts=hosts, orders=())


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (fleet(1), fleet(21), ["w2: w1 has not been heard of for 21 s."]),
        (fleet(21), fleet(59), []),
        (fleet(59), fleet(61), ["w2: w1 is lost: it has not been heard of for 61 s."]),
        (fleet(300), fleet(301, gone=True), ["w2: nothing is left of w1."]),
        (fleet(100), fleet(0), ["w2: w1 is heard of again."]),
        (fleet(1, leader="w1"), fleet(1), ["w2: w2 leads the fleet."]),
        (fleet(1), fleet(1, leader=""), ["w2: no host leads the fleet."]),
        (fleet(1, scheduler="w1"), fleet(1, scheduler=""), ["w2: no host has the scheduler."]),
        (fleet(1), three(problem="Redis can't be read"), ["w2: Redis can't be read."]),
        (None, fleet(90, leader="w3"), ["w2: w3 leads the fleet, w2 has the scheduler."]),
    ],
)
def test_what_a_host_says_of_the_others(before: FleetHosts | None, now: FleetHosts, told: list[str]) -> None:
    assert fleet_news(before, now) == told


def test_the_scheduler_is_told_of_when_more_than_a_number_changes() -> None:
    def says(sentence: str) -> Status:
        base = status("w2")
        return structs.replace(base, scheduler=structs.replace(base.scheduler, sentence=sentence))

    assert scheduler_news(says("none seen for 4 s"), says("none seen for 8 s")) == []
    assert scheduler_news(says("runs on w1"), says("runs on w2")) == ["w2: scheduler: runs on w2."]


def test_the_view_of_the_host_that_leads_is_shown() -> None:
    follows, leads = status("w1"), status("w2", leads=True)
    assert narrator({"w1": follows, "w2": leads}) == "w2"
    assert narrator({"w1": follows}) == "w1"
    assert narrator({}) == ""


def test_what_each_host_says_is_told_once_in_a_pipe() -> None:
    def with_events(name: str, *sentences: str) -> Status:
        events = tuple(Event(age_seconds=1, sentence=said) for said in sentences)
        return structs.replace(status(name), last_events=events, clamps=())

    seen, news = FleetSeen(keep=False), FleetNews()
    progress = scene().progress
    at = SAMPLES[0]
    seen.take(Look(at, {"w1": with_events("w1", "as it started"), "w2": with_events("w2", "b")}, None))
    assert news.of(seen.scene(progress)) == []
    seen.take(Look(at, {"w1": with_events("w1", "a"), "w2": with_events("w2", "b")}, fleet(1)))
    assert news.of(seen.scene(progress)) == ["w1: a.", "w2: w2 leads the fleet, w2 has the scheduler."]
    seen.take(Look(at, {"w2": with_events("w2", "b", "c")}, fleet(25)))
    seen.note(3.0, "The demo: w1 has lost its power.")
    told = ["w2: c.", "w2: w1 has not been heard of for 25 s.", "The demo: w1 has lost its power."]
    assert news.of(seen.scene(progress)) == told
    assert news.of(seen.scene(progress)) == []
