"""The tables of benchmarks/policies.md: every policy on every trace. `python -m benchmarks.policies [TRACE …]`."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fleetd.simulate.run import POLICIES, simulate
from fleetd.simulate.scoring.outcome import Outcome
from fleetd.simulate.trace.trace import load_trace

TRACES = Path(__file__).with_name("traces")
#: A policy with fewer late jobs counts as better only if it takes at most this many times fleetd's instance-hours.
INSTANCE_HOURS_RATIO_MAX = 1.25
#: Not compared: they know the future, or run everything all the time.
NOT_COMPARED = ("static", "oracle")


def summary_and_table(name: str) -> tuple[str, list[str]]:
    """One trace: its line of the summary, and its table."""
    trace = load_trace(TRACES / f"{name}.toml")
    outcomes = {o.policy: o for o in simulate(trace, None, POLICIES)}
    return summary(name, outcomes), table(name, outcomes)


def summary(name: str, outcomes: dict[str, Outcome]) -> str:
    """How fleetd does on this trace, and which policies do better."""
    own = outcomes["fleetd"].score
    others = {policy: o.score for policy, o in outcomes.items() if policy != "fleetd"}
    in_time = {policy: s.instance_seconds for policy, s in others.items() if s.meets_objective}
    cheapest = min(in_time, key=lambda policy: in_time[policy], default="")
    dearer = f"{own.instance_seconds / in_time[cheapest]:.2f} × {cheapest}" if cheapest else "nobody is in time"
    fewer = [
        f"{policy} ({s.late_fraction:.2%} at {s.instance_seconds / own.instance_seconds:.2f})"
        for policy, s in others.items()
        if policy not in NOT_COMPARED
        and s.late_jobs < own.late_jobs
        and s.instance_seconds <= INSTANCE_HOURS_RATIO_MAX * own.instance_seconds
    ]
    late = f"{own.late_fraction:.2%}" + ("" if own.meets_objective else " ✗")
    beaten = "" if own.meets_objective else ", ".join(fewer) or "nobody"
    reversals = f"{own.reversals}, {others['laravel'].reversals}, {others['hpa'].reversals}"
    return f"| {name} | {late} | {dearer} | {beaten} | {reversals} |"


def table(name: str, outcomes: dict[str, Outcome]) -> list[str]:
    """The rows of one trace."""
    own = outcomes["fleetd"].score.instance_seconds
    found = [
        f"\n### {name}\n",
        "| policy | late | worst queue | instance-hours | of fleetd's | starts | reversals | connections | lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for policy, outcome in outcomes.items():
        score = outcome.score
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction)
        mark = "" if score.meets_objective else " ✗"
        found.append(
            f"| {policy}{mark} | {score.late_fraction:.2%} | {worst[0]} {worst[1].late_fraction:.1%} | "
            f"{score.instance_seconds / 3600:.1f} | {score.instance_seconds / own:.2f} | {score.starts} | "
            f"{score.reversals} | {score.connections_max} | {score.lost_jobs} |"
        )
        if score.law_breaks or score.over_budget_seconds:
            found.append(
                f"| | | over budget {score.over_budget_seconds} s, law breaks {score.law_breaks} | | | | | | |"
            )
    return found


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in TRACES.glob("*.toml"))
    with ProcessPoolExecutor(2) as pool:
        done = list(pool.map(summary_and_table, names))
    print(
        "| trace | fleetd late | hours, of the cheapest in time | fewer late at up to 1.25 × | reversals: fleetd, "
        "laravel, hpa |\n|---|---|---|---|---|"
    )
    print("\n".join(line for line, _ in done))
    print("\n".join(line for _, found in done for line in found))


if __name__ == "__main__":
    main()
