"""`fleetctl simulate`: a table, a JSON document, a picture; what is wrong is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetd.cli.main import cli

TRACE = """
name = "small"
duration_seconds = 300
[targets]
default = 5
[queues.default]
arrivals_per_second = [[0, 5]]
service_seconds = { mean = 0.2 }
[profiles.local]
queues = ["default"]
threads = 5
instances = 2
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(TRACE)
    return file


def fleetctl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["simulate", *map(str, arguments)])


def test_a_table_of_the_policy_and_of_its_queues(trace: Path) -> None:
    result = fleetctl(trace)
    assert result.exit_code == 0, result.output
    assert "small" in result.stdout
    assert "✔ fleetd" in " ".join(result.stdout.split())
    assert "default" in result.stdout
    assert "…" not in result.stdout, "it fits 80 columns"


def test_one_json_document(trace: Path) -> None:
    result = fleetctl(trace, "--json", "--policy", "static")
    told = json.loads(result.stdout)
    assert told["trace"] == "small"
    assert told["policies"]["static"]["queues"]["default"]["late_jobs"] == 0
    assert told["policies"]["static"]["instance_seconds"] > 300


def test_a_picture(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "small.svg"
    assert fleetctl(trace, "--plot", picture).exit_code == 0
    assert picture.read_text().startswith("<svg ")


def test_everything_wrong_with_a_trace_is_said(trace: Path) -> None:
    trace.write_text(TRACE.replace("[[0, 5]]", "[[0, -5]]").replace("mean = 0.2", "mean = 0"))
    result = fleetctl(trace)
    assert result.exit_code == 1
    assert "queues.default.arrivals_per_second[0]" in result.stderr
    assert "queues.default.service_seconds.mean" in result.stderr
    assert "    Write 0 or more." in result.stderr.splitlines(), "each with its cure, on a line of its own"


def test_an_unknown_policy_and_a_trace_that_is_not_there(trace: Path, tmp_path: Path) -> None:
    wrong = fleetctl(trace, "--policy", "hpb")
    assert wrong.exit_code == 2
    assert "there are: fleetd, static, hpa" in wrong.stderr
    missing = fleetctl(tmp_path / "none.toml")
    assert missing.exit_code == 1
    assert "No such file" in missing.stderr


def test_profiles_may_come_from_the_configuration(trace: Path, tmp_path: Path) -> None:
    trace.write_text(TRACE.partition("[profiles.local]")[0])
    bare = fleetctl(trace)
    assert bare.exit_code != 0
    config = tmp_path / "fleetd.toml"
    config.write_text('[profiles.mine]\nqueues = ["default"]\nthreads = 5\ninstances = "1-2"\n')
    assert fleetctl(trace, "--config", config).exit_code == 0
