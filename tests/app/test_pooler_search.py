"""What answers where the workers connect is asked, kept, and asked again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fleetd.adapters.host.found_file import read_found
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.pooler_search import AGAIN_SECONDS, RETRY_SECONDS, PoolerSearch
from fleetd.config import parse
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import SourceUnavailableError
from tests.support.rig.manual_clock import ManualClock

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
OWN = '[postgres]\nurl = "postgresql://fleetd:x@h:5432/mastodon"\n'
ENV = EnvFile(text="DB_HOST=h\nDB_USER=masto\n")
NAMED = FoundPooler(kind="none", takes_names=True)


class Server:
    def __init__(self, answer: FoundPooler | None) -> None:
        self.answer = answer
        self.lets_in: set[str] = {"masto", "fleetd"}
        self.asked: list[str] = []

    async def __call__(self, login: PostgresSettings) -> FoundPooler:
        self.asked.append(login.user)
        if self.answer is None or login.user not in self.lets_in:
            raise SourceUnavailableError("no answer")
        return self.answer


def search(tmp_path: Path, server: Server) -> tuple[PoolerSearch, ManualClock]:
    clock = ManualClock()
    return PoolerSearch(tmp_path, find=server, monotonic=clock), clock


def ask(of: PoolerSearch, config: str = "", env: EnvFile = ENV) -> bool:
    return asyncio.run(of.ask(parse(PROFILE + config), env))


def test_what_was_found_is_kept_for_root_and_the_next_start(tmp_path: Path) -> None:
    found, _ = search(tmp_path, Server(NAMED))
    assert ask(found) is True
    kept = read_found(tmp_path)
    assert kept == FoundPooler(kind="none", takes_names=True, place="h:5432")
    assert (tmp_path / "pooler.json").stat().st_mode & 0o777 == 0o644
    later, _ = search(tmp_path, Server(None))
    assert later.found == kept
    assert ask(later) is False, "no answer is no news"
    assert later.found == kept


def test_it_asks_again_sooner_while_nobody_answers(tmp_path: Path) -> None:
    server = Server(None)
    found, clock = search(tmp_path, server)
    assert found.due
    ask(found)
    assert not found.due
    clock.seconds += RETRY_SECONDS
    assert found.due
    server.answer = NAMED
    assert ask(found) is True
    clock.seconds += RETRY_SECONDS
    assert not found.due
    clock.seconds += AGAIN_SECONDS
    server.answer = FoundPooler(kind="pgbouncer")
    assert ask(found) is True


def test_with_fleetds_own_login_where_the_workers_is_refused(tmp_path: Path) -> None:
    server = Server(NAMED)
    server.lets_in = {"fleetd"}  # peer authentication, for one
    found, _ = search(tmp_path, server)
    assert ask(found, OWN) is True
    assert server.asked == ["masto", "fleetd"]
    server.asked.clear()
    assert ask(found, OWN.replace("@h", "@elsewhere")) is False
    assert server.asked == ["masto"], "another server says nothing of this one"


@pytest.mark.parametrize("config", ['[connections]\nthrough = "pgbouncer"\n', '[pgbouncer]\nhost = "h"\n'])
def test_nobody_is_asked_what_the_configuration_says(tmp_path: Path, config: str) -> None:
    server = Server(NAMED)
    found, _ = search(tmp_path, server)
    assert ask(found, config) is False
    assert ask(found, env=EnvFile()) is False
    assert server.asked == []


def test_it_waits_for_names_to_be_rendered_but_not_for_ever(tmp_path: Path) -> None:
    found, _ = search(tmp_path, Server(NAMED))
    asyncio.run(asyncio.wait_for(found.rendered(tmp_path / "none"), 5))
    (tmp_path / "1.env").write_text('PGOPTIONS="-c application_name=x"\n')
    asyncio.run(asyncio.wait_for(found.rendered(tmp_path), 5))
