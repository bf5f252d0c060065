"""The picture, checked by reading its XML with the help of the axis labels."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.simulate.plot.picture import INK, PAPER, PROFILE_COLOURS, QUEUE_COLOURS, draw
from fleetd.simulate.run import POLICIES, policy_of, simulate
from fleetd.simulate.scoring.outcome import Curve, Outcome, QueueScore, Score, Spread
from fleetd.simulate.trace.trace import Trace
from tests.support.builders.traces import queue_toml, small_trace

SVG = "{http://www.w3.org/2000/svg}"
Point = tuple[float, float]


class Picture:
    """A parsed SVG, as `draw` makes it."""

    def __init__(self, text: str) -> None:
        self.root = ET.fromstring(text)  # noqa: S314 (our own)
        self.texts = {
            (float(e.get("x", "0")), float(e.get("y", "0"))): "".join(e.itertext())
            for e in self.root.iter(f"{SVG}text")
        }

    def paths(self, name: str) -> list[ET.Element]:
        """The lines and areas of this name: arrivals first, then row by row."""
        return [e for e in self.root.iter(f"{SVG}path") if e.findtext(f"{SVG}title") == name]

    def at(self, said: str, *, place: int = 0) -> Point:
        """The position of a text. Of several equal texts, the one at `place` in drawing order."""
        return [point for point, text in self.texts.items() if text == said][place]

    def line_y(self, said: str, *, place: int = 0) -> float:
        """The y of the grid line that an axis label belongs to."""
        return self.at(said, place=place)[1] - 4


def corners(path: str) -> list[Point]:
    """All corners of a path made of M, H, V and z."""
    found: list[Point] = []
    for verb, first, second in re.findall(r"([MHV])(-?[\d.]+)(?:,(-?[\d.]+))?", path):
        x, y = found[-1] if found else (math.nan, math.nan)
        found.append({"M": (first, second), "H": (first, y), "V": (x, first)}[verb])
        found[-1] = (float(found[-1][0]), float(found[-1][1]))
    return found


def height_at(path: str, x: float) -> float:
    """The y of a stepped line at an x."""
    points = corners(path)
    return next(a[1] for a, b in pairwise(points) if a[0] <= x < b[0] and a[1] == b[1])


def outcome_by_hand(
    trace: Trace,
    *,
    ages: dict[str, list[float]],
    sizes: list[Spread],
    policy: str = "fleetd",
    late: float = 0.0,
) -> Outcome:
    """An outcome made by hand, with ten connections claimed per instance."""
    score = QueueScore(jobs=1000, wait_seconds={}, late_jobs=round(1000 * late), late_fraction=late)
    return Outcome(
        policy=policy,
        score=Score(
            queues=dict.fromkeys(ages, score),
            late_jobs=score.late_jobs * len(ages),
            instance_seconds=7200,
            starts=3,
            stops=2,
            reversals=1,
            connections_max=0,
            over_budget_seconds=0,
            left_waiting=0,
            lost_jobs=0,
            law_breaks=0,
        ),
        curve=Curve(
            step_seconds=math.ceil(trace.duration_seconds / len(sizes)),
            instances=dict.fromkeys(trace.profiles, sizes),
            ages=ages,
            claims=[Spread(10 * s.lowest, 10 * s.highest, 10 * s.mean) for s in sizes],
            budget=[150] * len(sizes),
        ),
    )


def picture_of(trace: Trace, *outcomes: Outcome) -> Picture:
    return Picture(draw(trace, policy_of(trace, None), list(outcomes)))


def test_each_policy_has_its_share_of_late_jobs_in_the_heading() -> None:
    trace = small_trace("[targets]\ndefault = 5\n" + queue_toml("default", "[[0, 20]]"), seconds=900)
    outcomes = list(simulate(trace, None, ("fleetd", "static")))
    picture = picture_of(
        trace, *outcomes, outcome_by_hand(trace, ages={"default": [0.0]}, sizes=[Spread(1, 1, 1)], late=0.3)
    )
    heads = [text for text in picture.texts.values() if "instance-hours" in text]
    assert heads[0].startswith(f"✔ fleetd · {outcomes[0].score.late_fraction:.2%} late")
    assert heads[1].startswith("✔ static · 0.00% late")
    assert heads[2].startswith("✖ fleetd · 30.00% latedefault 30.0%")


def test_arrivals_of_each_queue_are_drawn_at_their_rate_and_time() -> None:
    trace = small_trace(
        queue_toml("default", "[[0, 100], [3599, 100], [3600, 10]]")
        + queue_toml("pull", "[[0, 1]]")
        + queue_toml("push", "[]"),
        seconds=7200,
    )
    picture = picture_of(trace)
    (default,), (pull,) = picture.paths("default"), picture.paths("pull")
    one, ten, hundred = (picture.line_y(said) for said in ("1", "10", "100"))
    assert one - ten == pytest.approx(ten - hundred, abs=0.2), "logarithmic"
    hour = picture.at("1 h")[0]
    noise = (one - ten) * math.log10(1.5)
    assert height_at(default.get("d", ""), hour - 60) == pytest.approx(hundred, abs=noise)
    assert height_at(default.get("d", ""), hour + 60) == pytest.approx(ten, abs=noise)
    for x in (hour - 300, hour, hour + 300):
        assert height_at(pull.get("d", ""), x) == pytest.approx(one, abs=noise)
    assert (default.get("stroke"), pull.get("stroke")) == QUEUE_COLOURS[:2]
    assert picture.paths("push") == [], "nothing ever came"


def test_a_burst_is_an_arrow_at_its_time_and_says_how_many_jobs() -> None:
    bursts = "[[3600, 25000], [3601, 1000], [5400, 700]]"
    trace = small_trace(queue_toml("push", "[[0, 4]]", bursts=bursts), seconds=7200)
    picture = picture_of(trace)
    rates, *arrows = picture.paths("push")
    assert picture.at("+25 000 push")[0] == pytest.approx(picture.at("1 h")[0], abs=0.5)
    assert "+1 000 push" not in picture.texts.values(), "it would lie on the larger one's"
    assert [corners(e.get("d", ""))[0][0] for e in arrows] == [
        pytest.approx(picture.at(said)[0], abs=0.5) for said in ("1 h", "1 h", "+700 push")
    ]
    top = min(y for _, y in corners(rates.get("d", "")))
    assert top > picture.line_y("10"), "no rate holds what comes at once"


def test_no_arrivals_are_drawn_while_redis_is_away() -> None:
    fault = '[[faults]]\nat = 1800\nfor_seconds = 600\nsource = "redis"\n'
    bursts = "[[1800, 500], [2399, 500], [2400, 700]]"
    trace = small_trace(fault + queue_toml("default", "[[0, 20]]", bursts=bursts), seconds=3600)
    picture = picture_of(trace)
    rates, *arrows = picture.paths("default")
    before, after = (corners(f"M{part}") for part in rates.get("d", "").split("M")[1:])
    begin, end = picture.at("30 min")[0], picture.at("40 min")[0]
    step = 2 * (end - begin) / 66  # 600 s have steps of 18 s; an incomplete step is not drawn
    assert begin - step <= before[-1][0] <= begin
    assert end <= after[0][0] <= end + step
    assert [corners(arrow.get("d", ""))[0][0] for arrow in arrows] == [pytest.approx(end, abs=0.1)]
    assert "redis away" in picture.texts.values()


def test_waits_are_bars_up_to_their_share_of_the_target_and_no_queue_hides_another() -> None:
    trace = small_trace(
        "[targets]\ndefault = 5\npush = 30\npull = 300\n" + "".join(map(queue_toml, ("default", "push", "pull")))
    )
    waits = {
        "default": [50.0, 0.0, 5.0, 0.1],
        "push": [30.0, 0.0, 30.0, 0.1],
        "pull": [0.0, 3000.0, 300.0, 0.1],
    }
    picture = picture_of(trace, outcome_by_hand(trace, ages=waits, sizes=[Spread(1, 1, 1)] * 4))
    bars = {name: [corners(bar) for bar in picture.paths(name)[0].get("d", "").split("z")[:-1]] for name in waits}
    one, ten, least = (picture.line_y(said) for said in ("1 ×", "10 ×", "0.1 ×"))
    heights = {name: [(min(y for _, y in bar), max(y for _, y in bar)) for bar in of] for name, of in bars.items()}
    near = pytest.approx
    assert heights["default"][0] == near((ten, one), abs=0.2), "from where push ends"
    assert heights["push"][0] == near((one, least), abs=0.2)
    assert heights["pull"][0] == near((ten, least), abs=0.2)
    alike = sorted(of[1] for of in heights.values())
    assert alike[0][0] == near(one, abs=0.2)
    assert all(low - high >= 1.9 for high, low in alike), "all three are seen"
    assert all(upper[1] <= lower[0] for upper, lower in pairwise(alike))
    assert all(len(of) == 2 for of in heights.values()), "a wait that is next to none is not drawn"


def test_a_flapping_count_is_drawn_as_its_mean_on_a_pale_band() -> None:
    trace = small_trace(queue_toml("default"))
    flapping = outcome_by_hand(
        trace, ages={"default": [0.0] * 3}, sizes=[Spread(5, 5, 5), Spread(0, 10, 5), Spread(5, 5, 5)]
    )
    picture = picture_of(trace, flapping)
    (line,) = picture.paths("local")
    # After those of the earlier panels.
    none, ten = picture.line_y("0", place=2), picture.line_y("10", place=1)
    assert all(y == pytest.approx(picture.line_y("5"), abs=0.2) for _, y in corners(line.get("d", "")))
    pale = [e for e in picture.root.iter(f"{SVG}path") if e.get("fill") == PROFILE_COLOURS[0]]
    band = corners(pale[0].get("d", ""))
    assert float(pale[0].get("fill-opacity", "1")) < 0.5
    assert (min(y for _, y in band), max(y for _, y in band)) == pytest.approx((ten, none), abs=0.2)
    assert max(x for x, _ in band) - min(x for x, _ in band) == pytest.approx(400 / 3, abs=0.2)


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_no_name_breaks_the_picture(name: str, queue_name: str, policy: str) -> None:
    trace = small_trace(queue_toml("default", "[[0, 9]]", bursts="[[100, 900]]"))
    hostile = msgspec.structs.replace(trace, name=name, queues={queue_name: trace.queues["default"]})
    one = outcome_by_hand(trace, ages={queue_name: [9.0]}, sizes=[Spread(1, 1, 1)], policy=policy, late=0.1)
    text = draw(hostile, policy_of(trace, None), [one])
    picture = Picture(text)
    text.encode()
    assert len(list(picture.root.iter(f"{SVG}text"))) == len(list(plain_picture().root.iter(f"{SVG}text")))


def plain_picture() -> Picture:
    trace = small_trace(queue_toml("default", "[[0, 9]]", bursts="[[100, 900]]"))
    return picture_of(trace, outcome_by_hand(trace, ages={"default": [9.0]}, sizes=[Spread(1, 1, 1)], late=0.1))


def test_markup_in_a_name_is_shown_literally_and_invisible_text_is_marked() -> None:
    trace = small_trace(queue_toml("default"))
    picture = picture_of(msgspec.structs.replace(trace, name="</text><b>&amp;\x00\x1b[2J\u202e"))
    assert "</text><b>&amp;��[2J�" in picture.texts.values()


def test_two_days_of_every_policy_flapping_stay_below_a_megabyte() -> None:
    names = [f"queue{i}" for i in range(7)]
    served = 'order = "strict"\nqueues = ' + str(names).replace("'", '"') + "\ninstances = 12\n"
    profiles = "".join(f"[profiles.{name}]\n{served}" for name in ("local", "federation", "background"))
    body = "".join(queue_toml(name, f"[[0, {10 + i}]]") for i, name in enumerate(names))
    trace = small_trace(body, seconds=172_800, profile=profiles)
    ages = {name: [7.0 * (i + 1) * (n % 13) for n in range(200)] for i, name in enumerate(names)}
    sizes = [Spread(1, 2 + n % 11, 1.5 + n % 7) for n in range(200)]
    outcomes = [outcome_by_hand(trace, ages=ages, sizes=sizes, policy=name) for name in POLICIES]
    assert 100_000 < len(draw(trace, policy_of(trace, None), outcomes).encode()) < 1_000_000


def test_colours_have_enough_contrast_to_the_background() -> None:
    assert contrast_ratio(INK) >= 4.5, "text"
    assert min(map(contrast_ratio, (*QUEUE_COLOURS, *PROFILE_COLOURS))) >= 3.0, "lines"


def contrast_ratio(colour: str) -> float:
    """WCAG 2.1, relative luminance and contrast ratio."""

    def luminance(hexed: str) -> float:
        shares = [int(hexed[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(colour), luminance(PAPER)))
    return (high + 0.05) / (low + 0.05)
