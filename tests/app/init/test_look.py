"""Looking around on this machine, with made-up units and settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.mastodon.services import MastodonService
from fleetd.app.init import look
from fleetd.app.init.found import Found
from fleetd.app.init.propose import propose
from fleetd.app.init.text import file_text
from tests.support.builders.findings import sidekiq_unit, web_unit

PASSWORD = "hunter2-and-more"
#: Nobody listens on port 1.
SETTINGS = f"""REDIS_URL=redis://:{PASSWORD}@127.0.0.1:1/0
DATABASE_URL=postgresql://mastodon:{PASSWORD}@127.0.0.1:1/mastodon?pool=20
SECRET_KEY_BASE={PASSWORD}
WEB_CONCURRENCY=3
"""


def around(monkeypatch: pytest.MonkeyPatch, *services: MastodonService, text: str = SETTINGS) -> Found:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(look, "mastodon_services", lambda *_: services)
    monkeypatch.setattr(look, "given_env", lambda settings, _: EnvFile(path=settings.mastodon.env_file, text=text))
    return look.look_around()


def test_no_secret_of_mastodons_comes_into_the_file_or_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = around(monkeypatch, sidekiq_unit(), web_unit())
    assert found.mastodon.sizes == {"WEB_CONCURRENCY": 3}
    assert found.servers.workers_pool == 20
    assert found.servers.processes is None
    text = file_text(propose(found))
    assert "Redis could not be asked: " in text
    assert "Postgres could not be asked: " in text
    for said in (text, repr(found)):
        assert PASSWORD not in said


def test_settings_that_are_damaged_end_in_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = f"REDIS_URL=gopher://:{PASSWORD}@[::\nDATABASE_URL=mysql://{PASSWORD}\n"
    text = file_text(propose(around(monkeypatch, sidekiq_unit(), text=broken)))
    assert "Not found out:" in text
    assert PASSWORD not in text


def test_the_mastodon_is_that_of_the_workers_that_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here, there = str(tmp_path / "live"), str(tmp_path / "second")
    (tmp_path / "current").symlink_to(here)
    mine = structs.replace(sidekiq_unit(), directory=str(tmp_path / "current"), user="masto")
    second = structs.replace(sidekiq_unit("second-sidekiq", active=False), directory=there)
    same = structs.replace(web_unit(), directory=here)
    found = around(monkeypatch, second, mine, same)
    assert (found.mastodon.directory, found.mastodon.user) == (f"{tmp_path}/current", "masto")
    assert found.services == (mine, same)
    assert found.other_mastodons == ("second-sidekiq.service",)


def test_this_hosts_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = around(monkeypatch)
    assert found.cores >= 1
    assert found.memory is not None
    assert 0 < found.memory.available_bytes <= found.memory.total_bytes
