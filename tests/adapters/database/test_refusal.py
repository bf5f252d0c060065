"""Refusals of Postgres for lack of connections are told apart from its other failures."""

from __future__ import annotations

import psycopg
import pytest

from fleetd.adapters.database.login import Login, refusal
from fleetd.config.connections import PostgresSettings


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


@pytest.mark.parametrize(
    ("user", "port", "message", "cure"),
    [
        ("fleetd", 5432, 'role "fleetd" does not exist', "run sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN"),
        ("fleetd", 5433, 'role "fleetd" does not exist', "psql -p 5433 -c"),
        ("mastodon", 5432, 'Peer authentication failed for user "mastodon"', 'set user = "fleetd" under [postgres]'),
        ("fleetd", 5432, 'Peer authentication failed for user "fleetd"', "pg_hba.conf needs a line such as"),
    ],
)
def test_a_login_by_user_that_fails_says_how_it_succeeds(user: str, port: int, message: str, cure: str) -> None:
    settings = PostgresSettings(host="/var/run/postgresql", port=port, user=user)
    said = Login(settings, 3.0).sentence(psycopg.OperationalError(f"connection failed: FATAL:  {message}"))
    assert cure in said


def test_over_the_network_a_missing_role_is_no_matter_of_the_user() -> None:
    settings = PostgresSettings(host="10.0.0.2", user="fleetd", password="secret")
    error = psycopg.OperationalError('connection failed: FATAL:  role "fleetd" does not exist')
    assert "CREATE ROLE" not in Login(settings, 3.0).sentence(error)


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        (
            'root certificate file "/var/lib/fleetd/.postgresql/root.crt" does not exist',
            "sudo install -D -o root -m 0644 ~mastodon/.postgresql/root.crt /var/lib/fleetd/.postgresql/root.crt",
        ),
        (
            'could not read root certificate file "/home/mastodon/ca.pem": Permission denied',
            "sudo install -m 0644 /home/mastodon/ca.pem /etc/ssl/certs/mastodon-postgres.crt",
        ),
        ('certificate file "/home/mastodon/c.crt" does not exist', "a login of its own under [postgres]"),
        ('private key file "/home/mastodon/c.key" has group or world access', "a login of its own under [postgres]"),
        (
            "fe_sendauth: no password supplied",
            "sudo install -D -o fleetd -m 0600 ~mastodon/.pgpass /var/lib/fleetd/.pgpass",
        ),
    ],
)
def test_what_only_the_workers_user_can_read_has_the_line_that_mends_it(message: str, cure: str) -> None:
    settings = PostgresSettings(host="10.0.0.2", sslmode="verify-full")
    assert cure in Login(settings, 3.0).sentence(psycopg.OperationalError(f"connection failed: {message}"))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("", "!password"),
        ("scram-sha-256", "scram-sha-256"),
        ("password,scram-sha-256", "scram-sha-256"),
        ("password", "!password"),
        ("!md5", "!md5,!password"),
        ("!password", "!password"),
    ],
)
def test_no_password_goes_out_in_the_clear_and_a_stricter_wish_holds(given: str, used: str) -> None:
    settings = PostgresSettings(host="10.0.0.2", user="fleetd", password="secret", more=(("require_auth", given),))
    assert Login(settings, 3.0).parameters()["require_auth"] == used
