"""What is said of a login that fails: what to do comes before libpq's own words, which are long."""

from __future__ import annotations

import psycopg
import pytest

from fleetd.adapters.database.login import Login
from fleetd.config.connections import PostgresSettings

FAILED = 'connection failed: connection to server at "10.0.0.2", port 5432 failed: '
SETTINGS = PostgresSettings(host="10.0.0.2", dbname="mastodon", user="mastodon", password="hunter22")


@pytest.mark.parametrize(
    ("libpq", "cure"),
    [
        (
            'FATAL:  password authentication failed for user "mastodon"',
            "the password is wrong: see that DB_PASS is right",
        ),
        ("Connection refused", "is it running, and does it listen there? It says:"),
        ("the database system is starting up", "the server is starting, stopping or in recovery. It says:"),
    ],
)
def test_the_cure_comes_first(libpq: str, cure: str) -> None:
    said = Login(SETTINGS, 2.0).sentence(psycopg.OperationalError(FAILED + libpq))
    assert said.startswith(f"Postgres at 10.0.0.2:5432, database mastodon as mastodon: {cure}")
    assert said.endswith(" ".join((FAILED + libpq).split()))


def test_a_wrong_password_says_that_a_corrected_one_is_read_only_at_the_start() -> None:
    """The sentence stays while .env.production is right already, and must be true then too."""
    error = psycopg.OperationalError(f"{FAILED}FATAL:  password authentication failed for user")
    said = Login(SETTINGS, 2.0).sentence(error)
    assert "then `systemctl restart fleetd`, which reads it again" in said
    assert "hunter22" not in said
