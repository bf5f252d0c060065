"""What README, the pages and config.example.toml show fits Debian's max_connections, with one instance more than min."""

from __future__ import annotations

import re

import pytest

from fleetd.app.doctor.connections import left_at_min
from fleetd.config import parse
from fleetd.core.model.policy_tables import Policy
from tests.config.test_example import EXAMPLE
from tests.config.test_pasted_tables import PROFILE, shown
from tests.support.builders.readings import database, snapshot

#: Mastodon's own: web 2 × 5, streaming 10.
WEB_AND_STREAMING = 20
DEBIANS = 100


def example(*profiles: str) -> str:
    """config.example.toml with these of its commented profiles enabled, and with its limit and claims."""
    lines, enabled = [], False
    for line in EXAMPLE.read_text().splitlines():
        head = re.fullmatch(r"#?\[profiles\.([a-z-]+)\]", line)
        enabled = (head[1] in profiles) if head else enabled and line.startswith("#") and line != "#"
        wanted = enabled or line.startswith(("#limit = ", "#claims = "))
        lines.append(line[1:] if wanted and re.match(r"#(\[profiles|[a-z_]+ = )", line) else line)
    return "\n".join(lines)


COMMENTED = ("push-first", "bulk", "even")
EXAMPLES = [(name, example(name)) for name in COMMENTED] + [("none", example()), ("all", example(*COMMENTED))]
#: What is for one network, login or queue says nothing of sizes, and is shown beside the smallest configuration.
TEXTS = [
    *((page, block if "[profiles." in block else block + PROFILE) for page, block in shown()),
    *((f"config.example.toml, {name}", text) for name, text in EXAMPLES),
]


def too_large(policy: Policy) -> list[str]:
    """Profiles of which no further instance fits beside web, streaming and every min."""
    seen = snapshot(policy, postgres=database(maximum=DEBIANS, clients=WEB_AND_STREAMING + 1))
    left = left_at_min(policy, seen)
    assert left is not None
    growing = [p for p in policy.profiles if p.max_instances > p.min_instances]
    assert growing or not policy.profiles
    return [f"{p.name}: {p.claim_connections} of {left}" for p in growing if p.claim_connections > left]


@pytest.mark.parametrize(("where", "text"), TEXTS, ids=[f"{n}: {where}" for n, (where, _) in enumerate(TEXTS)])
def test_one_more_than_min_fits_on_debians_defaults(where: str, text: str) -> None:
    assert too_large(parse(text, machine_host="w1").policy) == [], where


def test_the_example_is_read_with_what_is_commented_out() -> None:
    policy = parse(example(*COMMENTED), machine_host="w1").policy
    assert {p.name for p in policy.profiles} == {"default-first", *COMMENTED}
    assert policy.connections.limit is not None
    assert policy.connections.declared


def test_what_readme_showed_before_does_not_fit() -> None:
    two = "".join(f'[profiles.{name}]\ninstances = "{numbers}"\n' for name, numbers in (("a", "1-6"), ("b", "7-9")))
    assert too_large(parse(two, machine_host="w1").policy) != []
