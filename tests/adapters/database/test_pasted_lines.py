"""Every statement for Postgres that the documentation tells people to paste is taken by a real server."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetd.adapters.database.login import copy_line, own_role_line
from fleetd.errors import SourceUnavailableError
from tests.support.project import PROJECT
from tests.support.rig.mastodon_postgres import PASSWORD, read_once, tcp
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


def copied(line: str, workers: Path, fleetd: Path) -> None:
    """Run a printed line, with these homes, as whoever runs the tests."""
    words = shlex.split(line.replace("~mastodon", str(workers)).replace("/var/lib/fleetd", str(fleetd)))
    del words[words.index("-o") : words.index("-o") + 2]
    subprocess.run(words[1:], check=True)


def test_the_copies_of_what_only_the_workers_user_can_read_are_found(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By libpq, in the home of fleetd's user: a password, and the certificate of whoever signs the server's."""
    workers, fleetd = tmp_path / "mastodon", tmp_path / "fleetd"
    monkeypatch.setenv("HOME", str(fleetd))
    settings = tcp(cluster, password=None, sslmode="verify-full")
    with pytest.raises(SourceUnavailableError, match=r"install -D .* ~mastodon/\.postgresql/root\.crt"):
        read_once(settings)
    (workers / ".postgresql").mkdir(parents=True)
    (workers / ".postgresql/root.crt").write_bytes((cluster.directory / "root.crt").read_bytes())
    copied(copy_line("~mastodon/.postgresql/root.crt", ".postgresql/root.crt", "root", "0644"), workers, fleetd)
    with pytest.raises(SourceUnavailableError, match=r"install -D .* ~mastodon/\.pgpass"):
        read_once(settings)
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    (workers / ".pgpass").write_text(f"127.0.0.1:{cluster.port}:*:mastodon:{escaped}\n")
    copied(copy_line("~mastodon/.pgpass", ".pgpass", "fleetd", "0600"), workers, fleetd)
    assert read_once(settings).own_connections == 1
