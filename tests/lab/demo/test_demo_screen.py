"""The demo's screen and its lines of text, drawn from values."""

from dataclasses import replace

import pytest
from msgspec import structs
from rich.text import Text

from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.status import Event
from lab.demo.graph import graph, stretched
from lab.demo.plain import news, plain_line
from lab.demo.samples import Sample
from lab.demo.screen import Scene, screen_lines
from lab.demo.story import Progress, phases
from tests.support.builders import status_examples
from tests.support.builders.status_healthy import healthy

PHASES = {phase.name: phase for phase in phases()}
SAMPLE = Sample(
    at_seconds=40,
    waiting_jobs={"default": 1200, "pull": 34},
    waits_seconds={"default": 12.0, "pull": 20.0},
    busy_threads=48,
    retries_jobs=0,
    serving_instances=3,
    starting_instances=1,
    stopping_instances=0,
    schedulers=1,
    connections=68,
)


def scene(phase: str = "surge", samples: tuple[Sample, ...] = (SAMPLE,)) -> Scene:
    return Scene(Progress(PHASES[phase], 2, 5, 43, 63), samples, status_examples.surge())


def text(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 18), (40, 10)])
@pytest.mark.parametrize("phase", list(PHASES))
def test_the_screen_fits(width: int, height: int, phase: str, symbols: Symbols) -> None:
    for status in (None, healthy(), status_examples.surge()):
        shown = replace(scene(phase), status=status, silence="fleetd does not answer: " + "x" * 300)
        lines = screen_lines(shown, width=width, height=height, symbols=symbols)
        assert len(lines) == height
        assert all(line.cell_len <= width for line in lines)
        if symbols is ASCII:
            assert text(lines).isascii()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_screen_shows_the_phase_and_the_counts(width: int, height: int) -> None:
    shown = text(screen_lines(scene(), width=width, height=height, symbols=UNICODE))
    assert "SURGE" in shown
    assert "0:43" in shown
    for queue in ("default", "push", "ingress", "mailers", "pull"):
        assert f" {queue} " in shown
    assert "now 4" in shown  # three serve, one starts
    assert "now 1,234" in shown
    assert "Scheduler" in shown
    assert "Shortened for the demo" in shown
    # The whole clamp, however it is wrapped.
    assert "37 are left of 700" in " ".join(shown.split())


def test_without_a_status_the_screen_still_shows_the_rest() -> None:
    silent = replace(scene(), status=None, silence="fleetd does not answer: the bus is gone")
    shown = text(screen_lines(silent, width=80, height=24, symbols=UNICODE))
    assert "the bus is gone" in shown
    assert "now 4" in shown


def test_a_name_from_redis_cannot_control_the_terminal() -> None:
    status = status_examples.surge()
    evil = structs.replace(status.queues[0], name="\x1b[2Jdefault")
    shown = replace(scene(), status=structs.replace(status, queues=(evil, *status.queues[1:])))
    assert "\x1b" not in text(screen_lines(shown, width=80, height=24, symbols=UNICODE))


def test_no_peak_is_lost_when_a_series_is_squeezed() -> None:
    values: list[float | None] = [1.0] * 500
    values[333] = 9.0
    squeezed = stretched(values, 60, 500)
    assert len(squeezed) == 60
    assert max(value for value in squeezed if value is not None) == 9.0


def test_the_future_is_left_empty_and_the_unknown_is_not_drawn_as_zero() -> None:
    assert stretched([1.0, None], 4, 8) == [1.0]
    assert stretched([None, None, 3.0, None], 4, 4) == [None, None, 3.0, None]
    drawn = text(graph("x", [None, 0.0, 4.0], width=40, rows=2, span=3, style="", symbols=ASCII))
    assert "?" in drawn


def test_a_higher_value_is_never_drawn_lower() -> None:
    def height(value: float) -> int:
        lines = graph("x", [value, 100.0], width=10, rows=4, span=2, style="", symbols=UNICODE)
        return sum(" ▁▂▃▄▅▆▇█".index(line.plain[8]) for line in lines[1:])

    heights = [height(value) for value in range(101)]
    assert heights == sorted(heights)
    assert heights[0] == 0
    assert heights[100] == 32


def test_a_line_for_a_pipe() -> None:
    line = plain_line(scene())
    assert line.startswith(" 1:03  surge")
    assert "1,234 jobs wait (default 12 s, target 5 s)" in line
    assert "instances 3 + 1 starting" in line
    assert "connections 68 of 700" in line
    unknown = plain_line(scene(samples=(Sample(at_seconds=1.0),)))
    assert "? jobs wait" in unknown
    assert "instances ?" in unknown


def test_each_piece_of_news_is_reported_once() -> None:
    usual = healthy()
    events = (Event(age_seconds=9, sentence="a"), Event(age_seconds=5, sentence="b"))
    before = structs.replace(usual, last_events=events, clamps=())
    assert news(None, before) == ["fleetd: a.", "fleetd: b."]
    assert news(before, before) == []
    # The same event twice counts as two pieces of news. The oldest falls off the list.
    later = (events[1], Event(age_seconds=1, sentence="b"), Event(age_seconds=0, sentence="c"))
    assert news(before, structs.replace(before, last_events=later)) == ["fleetd: b.", "fleetd: c."]


def test_a_clamp_is_reported_when_it_appears() -> None:
    surge = status_examples.surge()
    clamps = tuple(clamp for profile in surge.profiles for clamp in profile.clamps)
    quiet, loud = structs.replace(surge, clamps=()), structs.replace(surge, clamps=clamps)
    told = [line for line in news(quiet, loud) if "connections:" in line]
    assert len(told) == 1
    assert "9→6" in told[0]
    assert news(loud, loud) == []
