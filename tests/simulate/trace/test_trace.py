"""Traces: what is read, and all problems of a trace together, each with path and cure."""

from __future__ import annotations

import contextlib
import re
import tomllib
from pathlib import Path

import pytest

from fleetd.errors import ConfigError
from fleetd.simulate.run import policy_of, run_fleetd
from fleetd.simulate.trace.hosts import HostTable, policies_of
from fleetd.simulate.trace.trace import load_trace, parse_trace, value_at
from tests.support.builders.traces import DOCUMENTED
from tests.support.project import PROJECT

TRACES = sorted(path for folder in ("", "hosts") for path in (PROJECT / "benchmarks/traces" / folder).glob("*.toml"))


def test_every_documented_key_is_read() -> None:
    trace = parse_trace(DOCUMENTED)
    assert (trace.name, trace.seed, trace.duration_seconds, trace.tick_seconds) == ("influx", 7, 21600, 5)
    assert list(trace.queues) == ["default", "push"]
    assert [(f.at, f.until, f.source, f.kill_instances) for f in trace.faults] == [
        (4000, 4120, "redis", None),
        (9000, 9000, None, 3),
    ]
    policy = policy_of(trace, None)
    assert [(p.name, p.min_instances, p.max_instances, p.numbers[0]) for p in policy.profiles] == [
        ("local", 2, 12, 1),  # min is initial_instances unless given
        ("even", 1, 3, 13),
    ]
    assert policy.profiles[1].queues == (("default", 4), ("push", 2))
    assert policy.target_seconds("push") == 30
    assert policy.target_seconds("something") == 60


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
def test_every_benchmark_trace_is_valid_and_named_like_its_file(path: Path) -> None:
    trace = load_trace(path)
    assert trace.name == path.stem
    assert policy_of(trace, None).profiles


def problems_with(change: str, instead: str) -> str:
    assert change in DOCUMENTED
    with pytest.raises(ConfigError) as raised:
        policy_of(parse_trace(DOCUMENTED.replace(change, instead)), None)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "instead", "path", "says"),
    [
        (
            "[3600, 90.0]",
            "[3600, -1]",
            "queues.default.arrivals_per_second[1]",
            "[3600, -1] is not [at, rate]",
        ),
        ("[3600, 90.0]", "[9000, 90.0]", "queues.default.arrivals_per_second[2]", "comes after 9000 s"),
        ("[1800, 20000]", "[99999, 20000]", "queues.default.bursts[0]", "after the end of the trace"),
        ("{ mean = 0.4 }", "{ sigma = 0.4 }", "queues.push.service_seconds", "says no mean"),
        ("mean = 0.2", "mean = -0.2", "queues.default.service_seconds.mean", "-0.2 is not a number"),
        ("duration_seconds = 21600", "", "duration_seconds", "missing"),
        ("boot_seconds = [12, 30]", "boot_seconds = [30, 12]", "boot_seconds", "30 is more than 12"),
        ("push = 30", "psuh = 30", "targets.psuh", "Did you mean push?"),
        ("push = 30", "zzz = 30", "targets.zzz", "neither the trace nor a profile has this queue"),
        ("[queues.push]", "[queues.mailers2]", "queues.mailers2", "no profile serves this queue"),
        ('"pull"]', '"scheduler"]', "profiles.local.queues", "can't serve the scheduler queue"),
        ("seed = 7", "sede = 7", "sede", "Did you mean seed?"),
        ("initial_instances = 2", "initial_instances = 4", "initial_instances", "even has 3"),
        ('"influx"', '"a \\u001b[2J b"', "name", "can't be shown"),
        ('"influx"', '""', "name", "from 1 to 100 characters"),
        ("seed = 7", f"seed = {10**30}", "seed", "is not a whole number"),
        ("seed = 7", "seed = 0x" + "f" * 5000, "seed", "more than 50 digits"),
        ("duration_seconds = 21600", "duration_seconds = inf", "duration_seconds", "inf is not"),
        ("boot_seconds = [12, 30]", "boot_seconds = 12", "boot_seconds", "12 is not [fastest, slowest]"),
        ("boot_seconds = [12, 30]", "boot_seconds = [1, inf]", "boot_seconds", "[1, inf] is not"),
        ("boot_seconds = [12, 30]", "boot_seconds = [1e9, 1e9]", "boot_seconds", "is not [fastest"),
        ("[1800, 20000]", "[1800, 0.4]", "queues.default.bursts[0]", "a whole number of jobs"),
        ("[1800, 20000]", "[21600, 9]", "queues.default.bursts[0]", "at the end of the trace"),
        ("[1800, 20000]", "[1800, 2e9]", "queues.default.bursts[0]", "0 to 1,000,000,000 jobs at once"),
        ("duration_seconds = 21600", "duration_seconds = 2764801", "duration_seconds", "from 60 to 2764800"),
        ("34359738368", "1e400", "host.memory_bytes", "inf is not"),
        ("[300e6, 1000e6]", "[1, inf]", "host.instance_memory_bytes", "[1, inf] is not [after boot"),
        ("knee_busy_threads = 250", "knee_busy_threads = inf", "database.knee_busy_threads", "inf is not"),
        ("kill_instances = 3", "kill_instances = 3\nfor_seconds = 9", "faults[1].for_seconds", "Remove it"),
        ("at = 9000", "at = 21600", "faults[1].at", "at the end of the trace"),
        ("at = 9000", "at = nan", "faults[1].at", "nan is not"),
        ("for_seconds = 120", "for_seconds = 0.4", "faults[0].for_seconds", "0.4 is not"),
        ("min = 1", "min = 9", "profiles.even.min", "more than instances = 3"),
        ('source = "redis"', 'source = "mysql"', "faults[0].source", 'Write e.g. "redis".'),
        ('for_seconds = 120\nsource = "redis"', "for_seconds = 120", "faults[0]", "neither one source"),
        ("for_seconds = 120\nsource", "source", "faults[0].for_seconds", "missing"),
        ("at = 9000", "", "faults[1].at", "missing"),
        ("[5000, 230]", "[4, 230], [3, 2]", "database.others[2]", "comes after 4 s"),
        (
            "[300e6, 1000e6]",
            "[300e6, 100e6]",
            "host.instance_memory_bytes",
            "3e+08 is more than 1e+08",
        ),
    ],
)
def test_problems_are_reported_with_path_and_cure(change: str, instead: str, path: str, says: str) -> None:
    found = problems_with(change, instead)
    assert f"  {path}: " in found
    assert says in found


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf", "1e300", "1e400", "9223372036854775807", "-1", '"12"'])
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ("[3600, 90.0]", "queues.default.arrivals_per_second[1]"),
        ("[1800, 20000]", "queues.default.bursts[0]"),
        ("[0, 150]", "database.others[0]"),
    ],
)
def test_no_curve_takes_invalid_times_or_amounts(change: str, path: str, amount: str) -> None:
    at, value = change.strip("[]").split(", ")
    for entry in (f"[{at}, {amount}]", f"[{amount}, {value}]", amount, "[1]"):
        assert f"  {path}: " in problems_with(change, entry)


def test_of_a_long_list_the_first_wrong_entries_and_the_number_are_reported() -> None:
    found = problems_with("[1800, 20000]", ", ".join(["[1800, -1]"] * 50))
    assert "bursts[4]: " in found
    assert "bursts[5]: " not in found
    assert "queues.default.bursts: 45 more entries are wrong" in found


def test_days_times_queues_are_bounded() -> None:
    queues = "".join(f"[queues.q{n}]\nservice_seconds = {{ mean = 0.1 }}\n" for n in range(9))
    text = f"duration_seconds = {30 * 86400}\n{queues}"
    with pytest.raises(ConfigError, match=r"duration_seconds: 30.0 days of 9 queues are too much"):
        parse_trace(text)
    assert len(parse_trace(text.replace("[queues.q", "[queues.r", 1).replace(f"{30 * 86400}", "86400")).queues) == 9


def test_all_problems_are_reported_together() -> None:
    text = DOCUMENTED.replace("[3600, 90.0]", "[3600, -1]").replace("seed = 7", "seed = -7")
    with pytest.raises(ConfigError) as raised:
        parse_trace(text.replace("at = 9000", "at = 99000"))
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [("x = [", "not TOML"), ("", "queues"), ("\x00", "not TOML"), ("seed = " + "9" * 5000, "not TOML")],
)
def test_nonsense_gives_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_trace(text)


def test_a_missing_file_or_one_that_is_no_text_gives_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_trace(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_trace(tmp_path / "bytes.toml")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "marked.toml").write_text(DOCUMENTED, encoding="utf-8-sig")
    assert load_trace(tmp_path / "marked.toml") == parse_trace(DOCUMENTED)


def documented_examples() -> tuple[str, str]:
    """A whole trace, and hosts for it."""
    whole, hosts = re.findall(r"```toml\n(.*?)```", (PROJECT / "docs/traces.md").read_text(), re.DOTALL)
    return whole, hosts


def test_the_documented_hosts_have_every_key_and_fit_the_documented_trace() -> None:
    whole, hosts = documented_examples()
    trace = parse_trace(whole + hosts)
    assert [host.name for host in trace.hosts] == ["w1", "w2"]
    assert [p.max_instances for own in policies_of(trace.hosts, policy_of(trace, None)) for p in own.profiles] == [
        12,
        6,
    ]
    written = {key for table in tomllib.loads(hosts)["hosts"] for key in table}
    assert written == set(HostTable.__struct_fields__)


def test_the_example_of_the_docs_has_every_key_and_runs() -> None:
    text, _ = documented_examples()
    trace = parse_trace(text)
    assert trace.targets["push"] == 30, "of a queue that a profile serves and that has no traffic"
    assert list(trace.queues) == ["default"]
    outcome, _ = run_fleetd(trace, policy_of(trace, None))
    assert outcome.breaks == ()
    jobs = outcome.score.queues["default"].jobs  # the two ramps, the burst and the level end
    assert jobs == pytest.approx(3600 * 51 + 3600 * 55 + 14400 * 20 + 20000, rel=0.02)


def test_any_queue_that_is_served_may_have_a_target() -> None:
    bare = DOCUMENTED.replace("[queues.push]\nservice_seconds = { mean = 0.4 }\n", "")
    trace = parse_trace(bare.replace("push = 30", "push = 30\nmailers = 90"))
    rules = policy_of(trace, None)
    assert [rules.target_seconds(q) for q in ("push", "mailers", "pull")] == [30, 90, 60]


JUNK = (
    "nan",
    "-inf",
    "1e400",
    "0x" + "f" * 4000,
    "-1",
    "0",
    "true",
    '"x"',
    "[]",
    "[[]]",
    "[1, [2]]",
    "{}",
    "1979-05-27",
)


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_whatever_stands_for_a_value_is_read_or_refused_in_a_sentence(junk: str) -> None:
    lines = "".join(documented_examples()).splitlines()
    for number, line in enumerate(lines):
        key, equals, _ = line.partition(" = ")
        if not equals:
            continue
        changed = [*lines[:number], f"{key} = {junk}", *lines[number + 1 :]]
        with contextlib.suppress(ConfigError):
            policy_of(parse_trace("\n".join(changed)), None)


def test_a_curve_is_linear_between_its_points_and_level_outside() -> None:
    curve = ((10.0, 1.0), (20.0, 3.0), (20.0, 8.0))
    assert [value_at(curve, at) for at in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 8.0, 8.0]
    assert value_at((), 5.0) == 0.0
