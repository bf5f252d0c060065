"""Refusals are understood in the languages Postgres speaks."""

from __future__ import annotations

import gettext
from pathlib import Path

import pytest

from fleetd.adapters.database.login import refusal

MESSAGES = {
    "sorry, too many clients already": "cluster",
    "remaining connection slots are reserved for non-replication superuser connections": "cluster",
    'too many connections for role "%s"': "role",
    'too many connections for database "%s"': "database",
}
CATALOGUES = sorted(Path("/usr/share/locale").glob("*/LC_MESSAGES/postgres-*.mo"))


@pytest.mark.parametrize("message", MESSAGES)
def test_english(message: str) -> None:
    assert refusal(f"connection failed: FATAL:  {message.replace('%s', 'mastodon')}") == MESSAGES[message]


@pytest.mark.parametrize(
    "reserved_for", ["roles with the SUPERUSER attribute", 'roles with privileges of the "x" role']
)
def test_postgres_16_reservations(reserved_for: str) -> None:
    assert refusal(f"FATAL:  remaining connection slots are reserved for {reserved_for}") == "cluster"


@pytest.mark.skipif(not CATALOGUES, reason="no translations of PostgreSQL are installed")
@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: f"{path.parts[4]}-{path.stem}")
def test_every_installed_catalogue(catalogue: Path) -> None:
    with catalogue.open("rb") as file:
        translations = gettext.GNUTranslations(file)
    for message, expected in MESSAGES.items():
        text = translations.gettext(message).replace("%s", "mastodon")
        assert refusal(f"connection failed: FATAL:  {text}") == expected, text


@pytest.mark.parametrize(
    "message",
    [
        'FATAL:  password authentication failed for user "mastodon"',
        "FATAL:  the database system is starting up",
        "connection refused",
        "",
    ],
)
def test_other_failures_are_none(message: str) -> None:
    assert refusal(message) is None
