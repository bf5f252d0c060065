"""`fleetctl simulate`: a table, a JSON document, a picture. All problems are listed together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleetd.cli.main import cli
from fleetd.config import parse
from fleetd.core.model.policy_tables import Policy
from fleetd.errors import ConfigProblem
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.trace import configured, parse_trace

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

SERVICE = "service_seconds = { mean = 0.2 }\n"


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


@pytest.mark.parametrize("columns", ["30", "60", "80", "200"])
def test_no_line_is_too_long_and_no_number_cut(trace: Path, columns: str) -> None:
    result = CliRunner(env={"COLUMNS": columns}).invoke(cli, ["simulate", str(trace), "--policy", "all"])
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert "…" not in result.stdout
    hours = [policy["instance_seconds"] / 3600 for policy in told(trace, "--policy", "all")["policies"].values()]
    assert all(f"{h:.1f}" in result.stdout.split() for h in hours)
    assert len([line for line in lines if line.startswith(("  ✔ ", "  ✖ "))]) == len(hours)


def told(trace: Path, *arguments: str | Path) -> Any:
    return json.loads(fleetctl(trace, "--json", *arguments).stdout)


def test_an_ascii_pipe_gets_ascii(trace: Path) -> None:
    trace.write_text(TRACE.replace('"small"', '"klein, aber öfter"'), encoding="utf-8")
    for more in ([], ["--json"]):
        result = CliRunner(charset="ascii").invoke(cli, ["simulate", str(trace), *more])
        assert result.exit_code == 0, result.exception
    said = CliRunner(charset="ascii").invoke(cli, ["simulate", str(trace)]).stdout
    assert "+ fleetd" in said
    assert "klein, aber \\xf6fter" in said


@pytest.mark.parametrize("name", ["a [/x] b", "[bold]", "[red]x[/red] :smile:"])
def test_markup_in_a_name_is_not_interpreted(trace: Path, name: str) -> None:
    trace.write_text(TRACE.replace('"small"', f'"{name}"'))
    result = fleetctl(trace)
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith(f"{name}  5 min")


def test_one_json_document(trace: Path) -> None:
    document = told(trace, "--policy", "static")
    assert document["trace"] == "small"
    assert document["policies"]["static"]["queues"]["default"]["late_jobs"] == 0
    assert document["policies"]["static"]["instance_seconds"] > 300


def test_a_picture(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "small.svg"
    assert fleetctl(trace, "--plot", picture).exit_code == 0
    assert picture.read_text().startswith("<svg ")


def test_every_problem_of_a_trace_is_listed(trace: Path) -> None:
    trace.write_text(TRACE.replace("[[0, 5]]", "[[0, -5]]").replace("mean = 0.2", "mean = 0"))
    result = fleetctl(trace)
    assert result.exit_code == 1
    assert "queues.default.arrivals_per_second[0]" in result.stderr
    assert "queues.default.service_seconds.mean" in result.stderr
    assert "    Write e.g. [3600, 90.0]." in result.stderr.splitlines(), "each with what to do, on a line of its own"


def test_an_unknown_policy_and_a_missing_trace(trace: Path, tmp_path: Path) -> None:
    wrong = fleetctl(trace, "--policy", "hpb")
    assert wrong.exit_code == 2
    assert "There is no policy 'hpb'. Did you mean hpa?" in wrong.stderr
    assert "There are: fleetd, static, hpa" in fleetctl(trace, "--policy", "zzz").stderr
    missing = fleetctl(tmp_path / "none.toml")
    assert missing.exit_code == 1
    assert "No such file" in missing.stderr


def test_the_problems_of_all_files_are_listed_together(trace: Path, tmp_path: Path) -> None:
    trace.write_text(TRACE.partition("[profiles.local]")[0].replace("duration_seconds = 300", ""))
    config = tmp_path / "fleetd.toml"
    config.write_text("[pace]\ntick_secods = 3\n")
    picture = tmp_path / "nowhere" / "small.svg"
    wrong = fleetctl(trace, "--config", config, "--policy", "hpb", "--plot", picture)
    assert wrong.exit_code == 2
    for said in (
        "duration_seconds: missing",
        "pace.tick_secods",
        f"{picture}: 1 problem",
        "Did you mean hpa?",
    ):
        assert said in wrong.stderr, said
    bare = fleetctl(trace)
    assert bare.exit_code == 1
    assert bare.stderr.startswith(f"{trace}: 2 problems")
    assert "Add [profiles.local] to the trace, or name a fleetd.toml with --config." in bare.stderr


def test_a_picture_that_cannot_be_written_is_reported_before_anything_runs(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetd.simulate.run.simulate", lambda *_: pytest.fail("it ran"))
    for place in (tmp_path, tmp_path / "none" / "x.svg", tmp_path / ("x" * 300), "-"):
        result = fleetctl(trace, "--plot", place)
        assert (result.exit_code, result.stdout) == (1, ""), place
    assert not Path("-").exists()


def test_checking_whether_a_picture_can_be_written_changes_nothing(trace: Path, tmp_path: Path) -> None:
    old, new, link = tmp_path / "old.svg", tmp_path / "new.svg", tmp_path / "link.svg"
    old.write_text("old")
    link.symlink_to(new)
    for picture in (old, new, link):
        assert fleetctl(trace, "--plot", picture, "--policy", "hpb").exit_code == 2
    assert old.read_text() == "old"
    assert not new.exists()
    assert link.is_symlink()


CONFIG = """
[profiles.mine]
queues = ["default", "push"]
threads = 5
instances = "1-6"
[profiles.other]
queues = ["pull"]
instances = "7-9"
min = 1
[targets]
pull = 900
default = 7
"""


def test_a_trace_under_a_configuration(tmp_path: Path) -> None:
    settings = parse(CONFIG, machine_host="h")
    text = TRACE.partition("[profiles.local]")[0].replace("duration", "initial_instances = 3\nduration")

    def under(text: str) -> tuple[Policy | None, list[str]]:
        problems: list[ConfigProblem] = []
        made = parse_trace(text)
        policy = configured(made, settings.policy, settings.profiles_without_min, problems)
        return policy if problems else policy_of(made, policy), [str(p) for p in problems]

    policy, problems = under(text)
    assert policy is not None
    assert problems == []
    assert [policy.target_seconds(q) for q in ("default", "pull", "push", "x")] == [5.0, 900.0, 30.0, 60.0]
    assert [(p.name, p.min_instances) for p in policy.profiles] == [("mine", 3), ("other", 1)]
    _, problems = under(text.replace("initial_instances = 3", "initial_instances = 4") + "[queues.x]\n" + SERVICE)
    assert len(problems) == 2
    assert "initial_instances: 4 of each profile are more than there are: other has 3" in problems[1]
    assert "queues.x: no profile serves this queue" in problems[0]


def test_profiles_may_come_from_the_configuration(trace: Path, tmp_path: Path) -> None:
    trace.write_text(TRACE.partition("[profiles.local]")[0])
    bare = fleetctl(trace)
    assert bare.exit_code != 0
    config = tmp_path / "fleetd.toml"
    config.write_text('[profiles.mine]\nqueues = ["default"]\nthreads = 5\ninstances = "1-2"\n')
    assert fleetctl(trace, "--config", config).exit_code == 0
