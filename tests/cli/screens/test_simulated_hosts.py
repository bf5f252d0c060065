"""What `fleetctl simulate` says of the hosts of a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetd.cli.main import cli
from fleetd.cli.screens.simulated_hosts import mean_instances, scheduler_sentence
from fleetd.simulate.run import policy_of, run_fleetd
from fleetd.simulate.scoring.outcome import HostScore, Outcome
from fleetd.simulate.trace.trace import parse_trace
from tests.support.project import PROJECT

TRACE = """
name = "small"
duration_seconds = 600
[targets]
default = 5
[queues.default]
arrivals_per_second = [[0, 5]]
service_seconds = { mean = 0.2 }
[profiles.local]
queues = ["default"]
threads = 5
instances = 2
[[hosts]]
name = "w1"
lost = [[90, 240]]
[[hosts]]
name = "w2"
frozen = [[300, 330]]
cut_off = [[400, 9000]]
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(TRACE)
    return file


def fleetctl(*arguments: str | Path, columns: str = "100") -> Result:
    return CliRunner(env={"COLUMNS": columns}).invoke(cli, ["simulate", *map(str, arguments)])


def test_each_host_with_its_instances_over_time_and_what_happened_to_it(trace: Path) -> None:
    result = fleetctl(trace)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "host 0 min 1.7 min 3.3 min 5 min 6.7 min 8.3 min hours starts lost" in lines
    row = next(line for line in lines if line.startswith("w1 "))
    assert row.split()[1:3] == ["0.9", "0.0"], "lost 90 s after the start, until after the second part"
    said = " ".join(lines)
    assert "At 1.5 min w1 loses its power, with 1 instance and the scheduler, and boots at 4 min." in said
    assert "At 5 min w2 stands still, with 1 instance, and goes on at 5.5 min." in said
    assert "At 6.7 min w2 does not reach Redis, with 1 instance." in said
    assert "The scheduler runs on w1, from 1.5 min nowhere" in said


def test_the_trace_that_the_documentation_names() -> None:
    result = fleetctl(PROJECT / "benchmarks/traces/hosts/host-lost-at-the-peak.toml")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "At 5 min w2 loses its power, with 9 instances." in said
    assert "The scheduler runs on w1." in said


@pytest.mark.parametrize("columns", ["30", "60", "80"])
def test_no_line_is_too_long(trace: Path, columns: str) -> None:
    result = fleetctl(trace, columns=columns)
    assert max(map(len, result.stdout.splitlines())) <= int(columns)
    assert "…" not in result.stdout


def test_other_policies_are_refused_with_everything_else_that_is_wrong(trace: Path) -> None:
    trace.write_text(TRACE.replace("[[90, 240]]", "[[240, 90]]"))
    result = fleetctl(trace, "--policy", "all")
    assert result.exit_code == 1
    assert "  hosts[0].lost[0]: it lasts from 240 s until 90 s" in result.stderr
    assert "  hosts: only fleetd runs on several hosts, not static, hpa" in result.stderr
    assert "2 problems" in result.stderr
    assert fleetctl(trace, "--policy", "hpb").exit_code == 2


def test_a_broken_law_names_the_host(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetd.simulate.world.world.World.budget_connections", lambda self: 0)
    trace.write_text(TRACE.replace("[[0, 5]]", "[[0, 60]]"))
    result = fleetctl(trace)
    assert result.exit_code == 1
    assert "law 2, small seed 1 at" in result.stderr
    assert "s: w2: started with claims" in result.stderr


def test_a_picture_has_a_line_for_each_host(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "small.svg"
    assert fleetctl(trace, "--plot", picture).exit_code == 0
    for text in ("w1/local", "w2/local", "w1 lost", "w2 cut off"):
        assert text in picture.read_text()


def test_means_are_of_the_part_only() -> None:
    host = HostScore(instance_seconds=0, starts=0, stops=0, lost_jobs=0, instances=[(0, 2), (50, 4), (100, 0)])
    assert [mean_instances(host, *part) for part in ((0, 50), (0, 100), (25, 75), (75, 125), (100, 200))] == [
        2.0,
        3.0,
        3.0,
        2.0,
        0.0,
    ]


def test_two_schedulers_at_once_are_told() -> None:
    trace = parse_trace(TRACE)
    outcome: Outcome = run_fleetd(trace, policy_of(trace, None))[0]
    outcome.score.scheduler[:] = [(0, ("w1",)), (120, ("w1", "w2"))]
    assert scheduler_sentence(outcome) == "The scheduler runs on w1, from 2 min on w1 and w2."
