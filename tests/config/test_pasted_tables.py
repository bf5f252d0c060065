"""Every table that README and the pages show for fleetd.toml is one that fleetd takes.

With config.example.toml, they fit Debian's max_connections, with one instance more than min.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from fleetd.app.doctor.connections import left_at_min
from fleetd.config import parse
from fleetd.config.access_tables import File
from fleetd.core.model.policy_tables import Policy
from tests.support.builders.readings import database, snapshot
from tests.support.project import PROJECT

PAGES = ("README.md", "docs/operations.md", "docs/other-mastodons.md", "docs/security.md", "docs/evidence.md")
PROFILE = '\n[profiles.any]\ninstances = "1-3"\n'
TABLES = set(File.__struct_fields__)


def shown() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = (PROJECT / page).read_text()
        yield from ((page, block) for block in re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        for block in re.findall(r"(?:^ {4}.+\n)+", text, re.MULTILINE):
            lines = [line[4:] for line in block.splitlines()]
            heads = [re.match(r"\[{1,2}([a-z]+)", line) for line in lines]
            if any(head and head[1] in TABLES for head in heads):
                yield page, "\n".join(lines)


def test_there_are_some() -> None:
    assert len(list(shown())) >= 6


@pytest.mark.parametrize(("page", "block"), list(shown()))
def test_fleetd_takes_it(page: str, block: str) -> None:
    text = block if "[profiles." in block else block + PROFILE
    assert parse(text, machine_host="w1").policy.profiles


#: Mastodon's own: web 2 × 5, streaming 10.
WEB_AND_STREAMING = 20
DEBIANS = 100


def example(*profiles: str) -> str:
    """config.example.toml with these of its commented profiles enabled, and with its limit and claims."""
    lines, enabled = [], False
    for line in (PROJECT / "config.example.toml").read_text().splitlines():
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
