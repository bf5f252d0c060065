"""Every table that README and the pages show for fleetd.toml is one that fleetd takes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from fleetd.config import parse
from fleetd.config.access_tables import File
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
