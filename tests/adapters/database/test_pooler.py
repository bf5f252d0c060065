"""What answers where the workers connect: real servers are asked, on whatever port."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import structs

from fleetd.adapters.database.pooler import find_pooler
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.mastodon_postgres import read_once, settings, tcp
from tests.support.rig.other_pooler import other_pooler
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster


@contextmanager
def pooler(cluster: Cluster, port: int | None = None, **options: object) -> Iterator[PgBouncer]:
    databases = {"mastodon": "pool_size=3 user=mastodon"}
    bouncer = PgBouncer(cluster, options=options, databases=databases)
    if port is not None:
        bouncer.port = port
    bouncer.start()
    try:
        yield bouncer
    finally:
        bouncer.stop(signal.SIGKILL)


def ask(login: PostgresSettings, **more: Any) -> FoundPooler:
    return asyncio.run(find_pooler(login, **{"deadline_seconds": WAIT_SECONDS, **more}))


def as_worker(bouncer: PgBouncer, **changes: Any) -> PostgresSettings:
    return bouncer.settings("mastodon", dbname="mastodon", **changes)


def test_postgres_itself_takes_names(cluster: Cluster) -> None:
    for login in (settings(cluster), tcp(cluster)):
        assert ask(login) == FoundPooler(kind="none", takes_names=True)
        assert read_once(login).pooled is False


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
@pytest.mark.parametrize("port", [5432, 6543, 6432, None])
def test_pgbouncer_is_recognised_on_any_port_and_in_any_mode(cluster: Cluster, mode: str, port: int | None) -> None:
    with pooler(cluster, port, pool_mode=mode, stats_users="mastodon") as bouncer:
        found = ask(as_worker(bouncer))
    assert (found.kind, found.takes_names) == ("pgbouncer", False)
    assert found.version.startswith("1."), "its console said"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_without_rights_on_the_console(cluster: Cluster, mode: str) -> None:
    with pooler(cluster, pool_mode=mode) as bouncer:
        assert ask(as_worker(bouncer)) == FoundPooler(kind="pgbouncer")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_one_that_ignores_options_loses_the_names(cluster: Cluster, mode: str) -> None:
    with pooler(cluster, pool_mode=mode, ignore_startup_parameters="options,extra_float_digits") as bouncer:
        assert ask(as_worker(bouncer)) == FoundPooler(kind="pgbouncer")


def test_pgbouncer_is_known_before_any_login(cluster: Cluster) -> None:
    with pooler(cluster) as bouncer:
        assert ask(as_worker(bouncer, password="wrong")).kind == "pgbouncer"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_reading_through_a_pooler_says_so(cluster: Cluster, mode: str) -> None:
    with pooler(cluster, pool_mode=mode, ignore_startup_parameters="options") as bouncer:
        assert read_once(as_worker(bouncer)).pooled is True


@pytest.mark.parametrize("refuses_options", [False, True])
def test_a_pooler_that_is_none_of_pgbouncer(cluster: Cluster, refuses_options: bool) -> None:
    with other_pooler(cluster.port, refuses_options=refuses_options) as port:
        login = structs.replace(tcp(cluster, sslmode="disable"), port=port)
        assert ask(login) == FoundPooler(kind="unknown")
        assert read_once(login).pooled is True


def test_a_proxy_that_passes_everything_on_is_no_pooler(cluster: Cluster) -> None:
    with other_pooler(cluster.port, plain_proxy=True) as port:
        login = structs.replace(tcp(cluster, sslmode="disable"), port=port)
        assert ask(login) == FoundPooler(kind="none", takes_names=True)
        assert read_once(login).pooled is False


def test_what_does_not_answer_or_lets_nobody_in_is_not_guessed(cluster: Cluster) -> None:
    nobody = PostgresSettings(host="127.0.0.1", port=free_port(), dbname="mastodon", user="mastodon")
    with pytest.raises(SourceUnavailableError):
        ask(nobody)
    with pytest.raises(SourceUnavailableError) as refused:
        ask(tcp(cluster, password="Geheim7"))
    assert "Geheim7" not in str(refused.value)


def test_a_server_that_hangs_is_not_waited_for(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = structs.replace(tcp(cluster), port=silent.getsockname()[1])
        with pytest.raises(SourceUnavailableError) as late:
            ask(login, deadline_seconds=0.3)
    assert "did not answer within 0.3 s" in str(late.value)
