"""The table of benchmarks/policies.md: every policy on every trace. `python -m benchmarks.policies [TRACE …]`."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fleetd.simulate.run import POLICIES, Outcome, simulate
from fleetd.simulate.trace import load_trace

TRACES = Path(__file__).with_name("traces")


def rows(name: str) -> list[str]:
    """The rows of one trace."""
    trace = load_trace(TRACES / f"{name}.toml")
    outcomes: list[Outcome] = list(simulate(trace, None, POLICIES))
    own = next(o.score.instance_seconds for o in outcomes if o.policy == "fleetd")
    found = [
        f"\n### {name}\n",
        "| policy | late | worst queue | instance-hours | of fleetd's | starts | reversals | lost |",
    ]
    found.append("|---|---|---|---|---|---|---|---|")
    for outcome in outcomes:
        score = outcome.score
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction)
        mark = "" if score.meets_objective else " ✗"
        found.append(
            f"| {outcome.policy}{mark} | {score.late_fraction:.2%} | {worst[0]} {worst[1].late_fraction:.1%} | "
            f"{score.instance_seconds / 3600:.1f} | {score.instance_seconds / own:.2f} | {score.starts} | "
            f"{score.reversals} | {score.lost_jobs} |"
        )
        if score.law_breaks or score.over_budget_seconds:
            found.append(
                f"| | | over budget {score.over_budget_seconds} s, law breaks {score.law_breaks} | | | | | |"
            )
    return found


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in TRACES.glob("*.toml"))
    with ProcessPoolExecutor(2) as pool:
        for found in pool.map(rows, names):
            print("\n".join(found), flush=True)


if __name__ == "__main__":
    main()
