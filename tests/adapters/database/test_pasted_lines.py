"""Every statement for Postgres that the documentation tells people to paste is taken by a real server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from fleetd.adapters.database.login import own_role_line
from tests.support.project import PROJECT
from tests.support.rig.postgres_cluster import Cluster

PAGES = ("README.md", "docs/operations.md", "config.example.toml")
_STATEMENT = re.compile(r"(?:CREATE ROLE|GRANT|ALTER \w+) [^;]+;")


def statements() -> Iterator[str]:
    for page in PAGES:
        for shown in (PROJECT / page).read_text().splitlines():
            line = shown.strip("# ").replace("…", "secret")
            if "psql -c " in line:
                yield shlex.split(line)[-1]
            else:
                yield from _STATEMENT.findall(line)


def test_there_are_some() -> None:
    assert len(list(statements())) >= 4


@pytest.mark.parametrize("statement", sorted({*statements(), shlex.split(own_role_line(5432))[-1]}))
def test_the_statement_is_taken(cluster: Cluster, statement: str) -> None:
    with cluster.admin() as admin, admin.transaction(force_rollback=True):
        if "CREATE ROLE fleetd" not in statement:
            admin.execute("CREATE ROLE fleetd LOGIN")
        admin.execute(statement)
