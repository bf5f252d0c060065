"""Traces without hosts give the figures that benchmarks/policies.md has had since before traces had hosts."""

from __future__ import annotations

from benchmarks.policies import TRACES, table
from fleetd.simulate.run import simulate
from fleetd.simulate.trace.trace import load_trace
from tests.support.project import PROJECT


def test_the_figures_of_fleetd_and_of_a_rival_are_those_of_the_page() -> None:
    name = "oom-kills"  # a busy one, in which instances end in their middle
    outcomes = {o.policy: o for o in simulate(load_trace(TRACES / f"{name}.toml"), None, ("fleetd", "laravel"))}
    _, section = (PROJECT / "benchmarks/policies.md").read_text().split(f"### {name}\n")
    page = section.partition("###")[0].splitlines()
    rows = table(name, outcomes)[3:]
    assert len(rows) == 2
    assert [row for row in rows if row not in page] == []
