"""Mastodon's settings as fleetd gets them: the copy that root made, in its credential."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fleetd.adapters.host.worker_account import WorkersUnit
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.endpoints import find_endpoints
from fleetd.app.given_env import CREDENTIAL, given_env
from fleetd.config import Settings, parse
from fleetd.errors import ConfigError

FORBIDDEN = EnvFile(path="/e", why="user mastodon may not", cure="chgrp mastodon /e.", forbidden=True)


def settings(more: str = "") -> Settings:
    return parse(f'[profiles.default-first]\ninstances = [1]\n[mastodon]\nenv_file = "/e"\n{more}')


def given(directory: Path, content: bytes) -> EnvFile:
    (directory / CREDENTIAL).write_bytes(content)
    return given_env(settings(), {"CREDENTIALS_DIRECTORY": str(directory)})


@pytest.mark.parametrize("env", [FORBIDDEN, EnvFile(path="/e", text="A=1\n"), EnvFile(path="/old", text="A=1\n")])
def test_it_is_what_root_handed_over(tmp_path: Path, env: EnvFile) -> None:
    assert given(tmp_path, msgspec.json.encode(env)) == env


@pytest.mark.parametrize("content", [b"{}", b"", b"DB_HOST=a\n", b"[" * 100_000, b'{"text": 7}', b"\xff"])
def test_without_a_copy_it_says_where_to_look(tmp_path: Path, content: bytes) -> None:
    found = given(tmp_path, content)
    assert (found.text, found.path) == (None, "/e")
    assert "fleetd-render, which hands it over, has not run or has failed" in found.why
    assert found.cure == "See `systemctl status fleetd-render`."


def test_without_a_credential_it_is_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env.production").write_text("A=1\n")
    file = tmp_path / ".env.production"
    own = parse(f'[profiles.default-first]\ninstances = [1]\n[mastodon]\nenv_file = "{file}"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleetd.adapters.mastodon.env_file.workers_unit", lambda *_: WorkersUnit())
        assert given_env(own, {}) == EnvFile(path=str(file), text="A=1\n")


def test_why_there_are_no_settings_is_told_with_the_cure() -> None:
    with pytest.raises(ConfigError) as raised:
        find_endpoints(settings(), FORBIDDEN)
    redis, postgres = map(str, raised.value.problems)
    assert redis == (
        "redis: not configured, and Mastodon's /e can't be read: user mastodon may not. chgrp mastodon /e. "
        "Or: Write a [redis] table, or let mastodon.env_file name the file; then restart fleetd."
    )
    assert postgres.startswith("postgres: not configured")


def test_settings_of_an_earlier_reading_are_used_and_said() -> None:
    kept = EnvFile(path="/e", text="DB_HOST=127.0.0.1\n", why="it is no regular file", kept=True)
    warning = "/e can't be read: it is no regular file. What was read before is still used."
    assert warning in find_endpoints(settings(), kept).warnings
    assert find_endpoints(settings(), EnvFile(path="/e", text="DB_HOST=/a\n")).warnings == ()
