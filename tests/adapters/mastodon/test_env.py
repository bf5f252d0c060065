from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.mastodon.database_rules import database_settings, replica_settings
from fleetd.adapters.mastodon.env import read_env
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.config.connections import PostgresSettings, RedisSettings
from fleetd.errors import ConfigProblem
from tests.support.project import PROJECT

FIXTURES = PROJECT / "tests/support/fixtures" / "env"


def read(text: str) -> tuple[RedisSettings | None, PostgresSettings | None, list[ConfigProblem]]:
    """The settings of Redis and of the database, and every problem found."""
    env, problems = read_env(EnvFile(text=text)), list[ConfigProblem]()
    assert env is not None
    redis, database = redis_settings(env, problems), database_settings(env, problems)
    return redis, None if database is None else database.login, [*env.broken, *problems]


def redis_of(text: str) -> RedisSettings:
    redis, _, problems = read(text)
    assert redis is not None, problems
    return redis


def postgres_of(text: str) -> PostgresSettings:
    _, postgres, problems = read(text)
    assert postgres is not None, problems
    return postgres


#: Sidekiq sets these before it loads Mastodon.
PRODUCTION = {"RAILS_ENV": "production", "RACK_ENV": "production"}


def problems_of(text: str) -> list[str]:
    return [problem.path for problem in read(text)[2]]


def test_values_are_those_of_dotenv_ruby() -> None:
    """The expected values are what Ruby's dotenv printed for the same file."""
    env = read_env(EnvFile(text=(FIXTURES / "quoting.env").read_text()))
    assert env is not None
    assert env.broken == []
    assert env.known() == {
        **PRODUCTION,
        "REDIS_HOST": "localhost",
        "REDIS_PORT": "6380",
        "REDIS_PASSWORD": "abc",
        "A": "x y",
        "B": r"a$A\\b",
        "C": "pre-x y-localhost-$A",
        "D": "plainx y",
        "E": "",
        "F": "spaced",
        "G": 'esc"qtx\\y',
        "H": "it",
        "K": "",
        "L": "",
        "M": "",
        "N": "http://h/$",
        "O": "trail",
        "P": "hash # inside",
    }


def test_the_environment_of_mastodon_is_production() -> None:
    env = read_env(EnvFile(text="DB_NAME=mastodon_$RACK_ENV\n"))
    assert env is not None
    assert env.value("DB_NAME") == "mastodon_production"


@pytest.mark.parametrize(
    ("environment", "broken"),
    [
        ((("RAILS_ENV", "staging"),), ["RAILS_ENV"]),
        ((("APP_ENV", "staging"), ("RAILS_ENV", "production")), ["APP_ENV"]),
        ((("APP_ENV", "production"), ("RAILS_ENV", "staging")), []),
        ((("RACK_ENV", "staging"),), []),
    ],
)
def test_another_environment_than_production_is_refused(
    environment: tuple[tuple[str, str], ...], broken: list[str]
) -> None:
    env = read_env(EnvFile(text="", environment=environment))
    assert env is not None
    assert [problem.path for problem in env.broken] == broken


def test_an_address_is_no_namespace() -> None:
    env = read_env(EnvFile(text="REDIS_NAMESPACE=redis://:secret@h\n"))
    problems: list[ConfigProblem] = []
    assert env is not None
    assert redis_settings(env, problems, (4, 3)) is None
    assert [problem.path for problem in problems] == ["REDIS_NAMESPACE"]
    assert "secret" not in str(problems)


def test_an_empty_namespace_is_one() -> None:
    env = read_env(EnvFile(text="REDIS_NAMESPACE=\n"))
    assert env is not None
    found = redis_settings(env, [], (4, 3))
    assert found is not None
    assert (found.key_prefix, found.place) == (":", "localhost:6379, database 0, namespace (empty)")


def test_the_process_environment_is_neither_read_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "from-outside")
    monkeypatch.setenv("OUTSIDE", "from-outside")
    before = dict(os.environ)
    env = read_env(EnvFile(text="A=$OUTSIDE\nREDIS_PORT=1234\n"))
    assert env is not None
    assert env.known() == {**PRODUCTION, "A": "", "REDIS_PORT": "1234"}
    assert redis_of("REDIS_PORT=1234").host == "localhost"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("REDIS_HOST=r\nREDIS_PORT=7000\nREDIS_DB=2", {"host": "r", "port": 7000, "db": 2}),
        ("REDIS_HOST=r\nREDIS_USER=u\nREDIS_PASSWORD=p", {"host": "r", "username": "u", "password": "p"}),
        ("REDIS_HOST=r\nREDIS_URL=redis://other:7/3", {"host": "other", "port": 7, "db": 3}),
        ("REDIS_URL=redis://:p%40ss@h", {"host": "h", "username": "default", "password": "p@ss"}),
        ("REDIS_URL=redis://justpassword@h", {"host": "h", "username": "default", "password": "justpassword"}),
        ("REDIS_URL=redis://u:p@[::1]:7/0", {"host": "::1", "port": 7, "username": "u", "password": "p"}),
        ("REDIS_URL=rediss://h:6380", {"host": "h", "port": 6380, "tls": True}),
        ("REDIS_URL=unix:///run/redis/r.sock?db=4", {"unix_socket": "/run/redis/r.sock", "db": 4}),
        ("REDIS_URL=unix://:p@/run/r.sock", {"unix_socket": "/run/r.sock", "username": "default", "password": "p"}),
        # a prefix with its own host inherits nothing
        ("REDIS_PASSWORD=p\nREDIS_DB=5\nREDIS_HOST=r\nSIDEKIQ_REDIS_HOST=s", {"host": "s"}),
        # and one without address, Sentinels or host is not used at all
        ("REDIS_HOST=r\nSIDEKIQ_REDIS_DB=9\nSIDEKIQ_REDIS_PASSWORD=x", {"host": "r"}),
        ("REDIS_HOST=r\nSIDEKIQ_REDIS_URL=redis://s/1", {"host": "s", "db": 1}),
        ("REDIS_HOST=r\nCACHE_REDIS_HOST=c", {"host": "r"}),
        (
            "REDIS_SENTINEL_MASTER=m\nREDIS_SENTINELS=a,b:1,c\nREDIS_PASSWORD=p\nREDIS_HOST=ignored",
            {
                "sentinel_master": "m",
                "sentinels": (("a", 26379), ("b", 1), ("c", 26379)),
                "username": "default",
                "password": "p",
                "sentinel_username": "default",
                "sentinel_password": "p",
            },
        ),
        (
            "SIDEKIQ_REDIS_SENTINEL_MASTER=m\nSIDEKIQ_REDIS_SENTINELS=a\nSIDEKIQ_REDIS_SENTINEL_PORT=5\n"
            "SIDEKIQ_REDIS_SENTINEL_USERNAME=su\nSIDEKIQ_REDIS_SENTINEL_PASSWORD=sp\nREDIS_PASSWORD=no",
            {
                "sentinel_master": "m",
                "sentinels": (("a", 5),),
                "sentinel_username": "su",
                "sentinel_password": "sp",
            },
        ),
        # an incomplete Sentinel does not count
        ("REDIS_SENTINEL_MASTER=m\nREDIS_HOST=r", {"host": "r"}),
        ("SIDEKIQ_REDIS_SENTINEL_MASTER=m\nREDIS_HOST=r", {"host": "r"}),
    ],
)
def test_which_redis(text: str, expected: dict[str, Any]) -> None:
    assert redis_of(text) == RedisSettings(**expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("DB_HOST=/var/run/postgresql\nDB_USER=m\nDB_NAME=n\nDB_PASS='p#1'\nDB_PORT=6432", None),
        ("DB_HOST=\nDB_PORT=", {"host": None, "port": None}),
        (
            "DB_SSLMODE=verify-full\nPGSSLROOTCERT=/ca.pem",
            {"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        ),
        (
            "DATABASE_URL=postgres://u:p%23@h:6000/d?sslmode=require",
            {"host": "h", "port": 6000, "dbname": "d", "user": "u", "password": "p#", "sslmode": "require"},
        ),
        (
            "DB_USER=u\nDB_SSLMODE=require\nDATABASE_URL=postgresql://h",
            {"host": "h", "user": "u", "sslmode": "require"},
        ),
        ("DATABASE_URL=postgresql:///d?host=/run/pg", {"host": "/run/pg", "dbname": "d"}),
    ],
)
def test_which_postgres(text: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        expected = {
            "host": "/var/run/postgresql",
            "user": "m",
            "dbname": "n",
            "password": "p#1",
            "port": 6432,
        }
    assert postgres_of(text) == PostgresSettings(**expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_HOST=h", None),
        ("DB_HOST=h\nREPLICA_DB_HOST=r", None),  # Mastodon checks for the name or for an address
        ("REPLICA_DB_NAME=n", {"dbname": "n"}),
        (
            "DB_HOST=h\nDB_PORT=5433\nDB_USER=u\nDB_PASS=p\nDB_SSLMODE=require\nREPLICA_DB_NAME=n",
            {"host": "h", "port": 5433, "dbname": "n", "user": "u", "password": "p", "sslmode": "require"},
        ),
        (
            "DB_HOST=h\nDB_PORT=5433\nDB_USER=u\nDB_PASS=p\nREPLICA_DB_NAME=n\nREPLICA_DB_HOST=r\n"
            "REPLICA_DB_PORT=5434\nREPLICA_DB_USER=ru\nREPLICA_DB_PASS=rp",
            {"host": "r", "port": 5434, "dbname": "n", "user": "ru", "password": "rp"},
        ),
        (
            "DB_HOST=h\nDB_NAME=d\nDB_USER=u\nREPLICA_DATABASE_URL=postgresql://r:6000",
            {"host": "r", "port": 6000, "dbname": "d", "user": "u"},
        ),
        ("DATABASE_URL=postgresql://h/d\nREPLICA_DB_NAME=n", {"dbname": "n"}),
    ],
)
def test_which_replica(text: str, expected: dict[str, Any] | None) -> None:
    env, problems = read_env(EnvFile(text=text)), list[ConfigProblem]()
    assert env is not None
    got = replica_settings(env, problems, (4, 5))
    assert problems == []
    assert (got and got.login) == (None if expected is None else PostgresSettings(**expected))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("REPLICA_DB_NAME=n\nREPLICA_DB_PORT=hunter2", "REPLICA_DB_PORT"),
        ("REPLICA_DB_NAME=n\nDB_PORT=hunter2", "DB_PORT"),
        ("REPLICA_DATABASE_URL=hunter2", "REPLICA_DATABASE_URL"),
        ("REPLICA_DATABASE_URL=postgresql://u:hunter2#@h/d", "REPLICA_DATABASE_URL"),
    ],
)
def test_problems_of_a_replica_name_the_key_and_no_value(text: str, key: str) -> None:
    env, problems = read_env(EnvFile(text=text)), list[ConfigProblem]()
    assert env is not None
    assert replica_settings(env, problems) is None
    assert [problem.path for problem in problems] == [key]
    assert "hunter2" not in str(problems[0])


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("REDIS_PORT=hunter2", ["REDIS_PORT"]),
        ("REDIS_PORT=0", ["REDIS_PORT"]),
        ("REDIS_PORT=hunter2\nREDIS_DB=hunter2\nDB_PORT=hunter2\nDB_SSLMODE=hunter2", None),
        ("REDIS_URL=http://hunter2", ["REDIS_URL"]),
        ("REDIS_URL=redis://:hunter2#x@h", None),
        ("REDIS_URL='redis://:hunter2#x@h'", ["REDIS_URL"]),
        ("REDIS_URL=redis://:a@h:hunter2", ["REDIS_URL"]),
        ("REDIS_URL=redis://[hunter2", ["REDIS_URL"]),
        ("REDIS_URL=redis://h/hunter2", ["REDIS_URL's database"]),
        ("REDIS_URL=unix://", ["REDIS_URL"]),
        ("SIDEKIQ_REDIS_URL=hunter2", ["SIDEKIQ_REDIS_URL"]),
        ("REDIS_SENTINEL_MASTER=m\nREDIS_SENTINELS=a:hunter2", ["REDIS_SENTINELS"]),
        ("REDIS_SENTINEL_MASTER=m\nREDIS_SENTINELS=:1", ["REDIS_SENTINELS"]),
        ("DATABASE_URL=mysql://hunter2", ["DATABASE_URL"]),
        ("DATABASE_URL=postgres://h/d?sslmode=hunter2", ["DATABASE_URL's sslmode"]),
        ("DATABASE_URL=postgres://h/d?port=hunter2", ["DATABASE_URL's port"]),
        ("REDIS_PASSWORD=$(cat hunter2)", ["REDIS_PASSWORD"]),
    ],
)
def test_problems_name_the_key_and_never_the_value(text: str, keys: list[str] | None) -> None:
    problems = read(text)[2]
    assert "hunter2" not in "".join(map(str, problems))
    assert problems
    if keys is not None:
        assert [problem.path for problem in problems] == keys


def test_all_problems_at_once() -> None:
    text = "REDIS_PORT=x\nREDIS_DB=y\nDB_PORT=z\nDB_SSLMODE=w\nDB_PASS=$(pass show db)"
    assert problems_of(text) == ["REDIS_PORT", "REDIS_DB", "DB_PASS", "DB_PORT", "DB_SSLMODE"]


def test_lines_about_other_things_may_be_anything() -> None:
    assert redis_of("SMTP_PASSWORD='half\nREDIS_HOST=r").host == "r"
    assert redis_of("LOCAL_DOMAIN=$(hostname)\nREDIS_HOST=r").host == "r"


def test_settings_never_show_a_secret() -> None:
    text = "REDIS_PASSWORD=hunter2\nDB_PASS=hunter2\nDB_USER=mastodon"
    for one in (redis_of(text), postgres_of(text)):
        assert one.password == "hunter2"
        assert "hunter2" not in f"{one!r} {one} {one.__rich_repr__()!r}"
    assert "mastodon" in repr(postgres_of(text))
    key = postgres_of("DATABASE_URL=postgresql://h/d?sslkey=/k&sslpassword=hunter2")
    assert dict(key.more) == {"sslpassword": "hunter2"}
    assert "hunter2" not in f"{key!r} {key}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("DATABASE_URL=postgresql:u:hunter2@h/d", "DATABASE_URL"),
        ("DATABASE_URL=postgresql:///u:hunter2@h/d", "DATABASE_URL"),
        ("DATABASE_URL=postgresql://h/d?host=u:hunter2@h", "DATABASE_URL"),
        ("DB_HOST=u:hunter2@h", "DB_HOST"),
        ("DB_NAME=hunter2@h", "DB_NAME"),
        ("REDIS_URL=/u:hunter2@h/0", "REDIS_URL"),
        ("REDIS_URL=unix:///u:hunter2@h", "REDIS_URL"),
        ("REDIS_HOST=u:hunter2@h", "REDIS_HOST"),
        ("REDIS_SENTINEL_MASTER=m\nREDIS_SENTINELS=u:hunter2@h", "REDIS_SENTINELS"),
    ],
)
def test_a_password_at_the_wrong_place_is_never_taken_for_a_name(text: str, key: str) -> None:
    """Names are shown."""
    problems = read(text)[2]
    assert [problem.path for problem in problems] == [key]
    assert "hunter2" not in str(problems[0])


KEYS = (
    "REDIS_URL",
    "SIDEKIQ_REDIS_URL",
    "REDIS_PORT",
    "REDIS_SENTINELS",
    "REDIS_SENTINEL_MASTER",
    "DATABASE_URL",
)
VALUES = st.text(max_size=30) | st.from_regex(r"\A(redis|rediss|unix|postgres)://[a-z:@/?#\[\]%0-9]{0,20}\Z")


@given(st.lists(st.tuples(st.sampled_from([*KEYS, "DB_PORT", "DB_HOST", "export REDIS_HOST"]), VALUES), max_size=5))
def test_any_file_gives_settings_or_problems(lines: list[tuple[str, str]]) -> None:
    redis, _, problems = read("\n".join(f"{key}={value}" for key, value in lines))
    assert problems if redis is None else 1 <= redis.port <= 65535
