"""Traces: what is read, and everything that is wrong with one at once, with path and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetd.errors import ConfigError
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace import load_trace, parse_trace, value_at

ROOT = Path(__file__).parents[2]

DOCUMENTED = """
name = "influx"
seed = 7
duration_seconds = 21600
tick_seconds = 5
boot_seconds = [12, 30]
initial_instances = 2
[targets]
default = 5
push = 30
[queues.default]
arrivals_per_second = [[0, 12.0], [3600, 90.0], [7200, 20.0]]
bursts = [[1800, 20000]]
service_seconds = { mean = 0.2, sigma = 1.0 }
[queues.push]
service_seconds = { mean = 0.4 }
[profiles.local]
order = "strict"
queues = ["default", "ingress", "push", "mailers", "pull"]
threads = 25
db_pool = 30
instances = 12
[profiles.even]
order = "weighted"
weights = { default = 4, push = 2 }
instances = 3
min = 1
[database]
max_connections = 400
others = [[0, 150], [5000, 230]]
knee_busy_threads = 250
[host]
memory_bytes = 34359738368
instance_memory_bytes = [300e6, 1000e6]
[[faults]]
at = 4000
for_seconds = 120
source = "redis"
[[faults]]
at = 9000
kill_instances = 3
"""


def test_every_documented_key_is_read() -> None:
    trace = parse_trace(DOCUMENTED)
    assert (trace.name, trace.seed, trace.duration_seconds, trace.tick_seconds) == ("influx", 7, 21600, 5)
    assert [(p.name, p.min_instances, p.max_instances, p.numbers[0]) for p in trace.profiles] == [
        ("local", 2, 12, 1),  # min is initial_instances unless given
        ("even", 1, 3, 13),
    ]
    assert trace.profiles[1].queues == (("default", 4), ("push", 2))
    assert [q.name for q in trace.queues] == ["default", "push"]
    assert [(f.at_seconds, f.until_seconds, f.source, f.kill_instances) for f in trace.faults] == [
        (4000, 4120, "redis", 0),
        (9000, 9000, "", 3),
    ]
    rules = policy_of(trace, None)
    assert rules.target_seconds("push") == 30
    assert rules.target_seconds("something") == 60


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/traces").glob("*.toml")), ids=lambda p: p.stem)
def test_every_trace_of_the_benchmark_is_sound_and_named_as_its_file(path: Path) -> None:
    trace = load_trace(path)
    assert trace.name == path.stem
    assert policy_of(trace, None).profiles


def problems(change: str, instead: str) -> str:
    assert change in DOCUMENTED
    with pytest.raises(ConfigError) as raised:
        policy_of(parse_trace(DOCUMENTED.replace(change, instead)), None)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "instead", "path", "says"),
    [
        ("[3600, 90.0]", "[3600, -1]", "queues.default.arrivals_per_second[1]", "-1 is negative"),
        ("[3600, 90.0]", "[9000, 90.0]", "queues.default.arrivals_per_second[2]", "comes after 9000 s"),
        ("[1800, 20000]", "[99999, 20000]", "queues.default.bursts[0]", "after the end of the trace"),
        ("{ mean = 0.4 }", "{ sigma = 0.4 }", "queues.push.service_seconds", "says no mean"),
        ("mean = 0.2", "mean = -0.2", "queues.default.service_seconds.mean", "-0.2 is not a number"),
        ("duration_seconds = 21600", "", "duration_seconds", "missing"),
        ("boot_seconds = [12, 30]", "boot_seconds = [30, 12]", "boot_seconds", "not a range"),
        ("push = 30", "psuh = 30", "targets.psuh", "Did you mean push?"),
        ("[queues.push]", "[queues.mailers2]", "queues.mailers2", "no profile serves this queue"),
        ('"pull"]', '"scheduler"]', "profiles.local.queues", "can't serve the scheduler queue"),
        ("seed = 7", "sede = 7", "sede", "Did you mean seed?"),
        ("min = 1", "min = 9", "profiles.even.min", "more than instances = 3"),
        ('source = "redis"', 'source = "mysql"', "faults[0].source", "one of"),
        ('for_seconds = 120\nsource = "redis"', "for_seconds = 120", "faults[0]", "neither one source"),
        ("for_seconds = 120\nsource", "source", "faults[0].for_seconds", "missing"),
        ("at = 9000", "", "faults[1].at", "missing"),
        ("[5000, 230]", "[4, 230], [3, 2]", "database.others[2]", "comes after 4 s"),
        ("[300e6, 1000e6]", "[300e6, 100e6]", "host.instance_memory_bytes", "not a size after boot"),
    ],
)
def test_what_is_wrong_is_said_with_path_and_cure(change: str, instead: str, path: str, says: str) -> None:
    found = problems(change, instead)
    assert f"  {path}: " in found
    assert says in found


def test_everything_wrong_is_said_at_once() -> None:
    text = DOCUMENTED.replace("[3600, 90.0]", "[3600, -1]").replace("seed = 7", "seed = -7")
    with pytest.raises(ConfigError) as raised:
        parse_trace(text.replace("at = 9000", "at = 99000"))
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(("text", "says"), [("x = [", "not TOML"), ("", "queues"), ("\x00", "not TOML")])
def test_nonsense_is_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_trace(text)


def test_a_file_that_is_not_there_or_no_text_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_trace(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_trace(tmp_path / "bytes.toml")


def test_a_curve_is_linear_between_its_points_and_level_outside() -> None:
    curve = ((10.0, 1.0), (20.0, 3.0), (20.0, 8.0))
    assert [value_at(curve, at) for at in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 8.0, 8.0]
    assert value_at((), 5.0) == 0.0
