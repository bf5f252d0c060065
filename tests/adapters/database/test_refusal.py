"""Refusals of Postgres for lack of connections are told apart from its other failures."""

from __future__ import annotations

import psycopg
import pytest

from fleetd.adapters.database.login import refusal


@pytest.mark.parametrize(
    ("message", "whose"),
    [
        ("sorry, too many clients already", "cluster"),
        ("remaining connection slots are reserved for non-replication superuser connections", "cluster"),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", "cluster"),
        ('remaining connection slots are reserved for roles with privileges of the "x" role', "cluster"),
        ('too many connections for role "mastodon"', "role"),
        ('too many connections for database "mastodon"', "database"),
        ('password authentication failed for user "mastodon"', None),
        ("the database system is starting up", None),
        ("tut mir leid, schon zu viele Verbindungen", None),
    ],
)
def test_the_limit_that_was_reached_is_recognised(message: str, whose: str | None) -> None:
    assert refusal(psycopg.OperationalError(f"connection failed: FATAL:  {message}")) == whose
