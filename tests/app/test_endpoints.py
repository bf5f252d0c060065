"""Which sources are read, how they were found, and how that is described."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.route import route
from fleetd.config import parse
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import ConfigError

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
DIRECT = "DB_HOST=10.0.0.2\nDB_NAME=mastodon\nDB_USER=masto\nDB_PASS=Geheim7\n"
BOUNCER = DIRECT + "DB_PORT=6432\nPREPARED_STATEMENTS=false\n"
UNWATCHED = "Postgres behind PgBouncer is not watched: name it under [postgres]."
OWN_POSTGRES = '[postgres]\nurl = "postgresql://fleetd:Geheim8@10.0.0.3/mastodon"\n'


def endpoints_of(env: str | None, config: str = "", version: str = "4.6.5") -> Endpoints:
    no_file = "" if "[mastodon]" in config else '[mastodon]\nenv_file = "/none/.env.production"\n'
    network = "" if "[network]" in config else '[network]\nprivate = ["10.0.0.0/24"]\n'
    settings = parse(PROFILE + no_file + network + config)
    return find_endpoints(settings, EnvFile(text=env, version=version))


def wrong(env: str | None, config: str = "") -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        endpoints_of(env, config)
    assert "Geheim" not in str(raised.value)
    told = {problem.path: str(problem) for problem in raised.value.problems}
    assert len(told) == len(raised.value.problems), "each once"
    return told


def test_direct_postgres() -> None:
    found = endpoints_of(DIRECT)
    assert found.postgres == PostgresSettings(host="10.0.0.2", dbname="mastodon", user="masto", password="Geheim7")
    assert (found.pgbouncer, found.replica) == (None, None)
    assert found.countable is True
    assert found.sentence == (
        "Database connections are watched at: Postgres, or a pooler (not asked yet), at 10.0.0.2:5432, "
        "as .env.production says."
    )
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("env", "config", "why"),
    [
        (DIRECT + "DB_PORT=6432\n", "", ".env.production names port 6432"),
        (DIRECT + "PREPARED_STATEMENTS=false\n", "", ".env.production says PREPARED_STATEMENTS=false"),
        (DIRECT, '[pgbouncer]\nhost = "10.0.0.2"\n', "there is a [pgbouncer] table"),
        (DIRECT, '[connections]\nthrough = "pgbouncer"\n', "connections.through says so"),
    ],
)
def test_pgbouncer_alone_and_how_it_was_found(env: str, config: str, why: str) -> None:
    found = endpoints_of(env, config)
    assert found.postgres is None
    assert found.pgbouncer is not None
    assert found.pgbouncer.host == "10.0.0.2"
    assert found.mastodon_pool == ("mastodon", "masto")
    assert found.countable is False
    assert f"PgBouncer at 10.0.0.2:{found.pgbouncer.port}, because {why}." in found.sentence
    assert found.warnings == (UNWATCHED,)


def test_pgbouncer_and_postgres_behind_it() -> None:
    found = endpoints_of(BOUNCER, OWN_POSTGRES)
    assert found.pgbouncer is not None
    assert (found.pgbouncer.port, found.pgbouncer.user) == (6432, "masto")
    assert found.postgres is not None
    assert found.postgres.host == "10.0.0.3"
    assert found.warnings == (
        "[postgres] logs in with role fleetd, Mastodon with masto, whose limits are not known: set mastodon.role.",
    )
    said = '[mastodon]\nenv_file = "/none"\nrole = "masto"\n'
    assert endpoints_of(BOUNCER, OWN_POSTGRES + said).warnings == ()
    assert found.sentence.endswith("6432; Postgres at 10.0.0.3:5432, as [postgres] says.")


def test_the_configuration_takes_precedence_over_what_is_detected() -> None:
    found = endpoints_of(
        DIRECT + "PREPARED_STATEMENTS=false\n",
        '[connections]\nthrough = "postgres"\n[pgbouncer]\nhost = "h"\n',
    )
    assert found.pgbouncer is None
    assert found.postgres is not None
    assert found.countable is True
    assert found.warnings == ('[pgbouncer] is not used: connections.through is "postgres".',)


def test_mastodons_pool_when_its_file_cannot_be_read() -> None:
    redis = '[redis]\nhost = "h"\n'
    console = '[pgbouncer]\nhost = "h"\n'
    assert set(wrong(None, redis + console)) == {"mastodon.database", "mastodon.role"}
    said = '[mastodon]\nenv_file = "/none"\ndatabase = "d"\nrole = "r"\n'
    assert endpoints_of(None, redis + console + said).mastodon_pool == ("d", "r")


def test_mastodons_pool_has_the_names_that_mastodon_uses() -> None:
    """The configuration has Postgres's database and role, which may have other names in PgBouncer."""
    said = '[mastodon]\nenv_file = "/none"\ndatabase = "d"\nrole = "r"\n'
    assert endpoints_of(BOUNCER, said).mastodon_pool == ("mastodon", "masto")


def test_a_replica() -> None:
    env = DIRECT + "REPLICA_DB_NAME=mastodon\nREPLICA_DB_HOST=10.0.0.4\n"
    found = endpoints_of(env)
    assert found.replica is not None
    assert (found.replica.host, found.replica.user) == ("10.0.0.4", "masto")
    assert found.replica_login_is_mastodons is True
    assert found.sentence.endswith("; the replica at 10.0.0.4:5432, as .env.production says.")
    own = endpoints_of(env, '[replica]\nhost = "r"\n')
    assert [w for w in own.warnings if "[replica] logs in with database mastodon_production" in w]
    assert own.replica == PostgresSettings(host="r")
    assert own.replica_login_is_mastodons is False
    assert own.sentence.endswith("; the replica at r:5432, as [replica] says.")


@pytest.mark.parametrize(
    ("env", "config", "said"),
    [
        ("REPLICA_DB_NAME=m\n", '[connections]\nreplica = "none"\n', None),
        (
            "REPLICA_DB_NAME=m\n",
            '[connections]\nreplica = "none"\n[replica]\nhost = "h"\n',
            "[replica] is not used: connections.replica is",
        ),
        ("REPLICA_DB_USER=r\n", "", None),
    ],
)
def test_no_replica(env: str, config: str, said: str | None) -> None:
    found = endpoints_of(DIRECT + env, config)
    assert found.replica is None
    assert [w for w in found.warnings if said and said in w] == list(found.warnings)
    assert len(found.warnings) == (said is not None)


def test_a_replica_behind_pgbouncer_is_reported() -> None:
    found = endpoints_of(BOUNCER + "REPLICA_DB_NAME=m\n")
    assert [w for w in found.warnings if "name the replica itself under [replica]" in w]


def test_all_problems_are_listed_together_and_once() -> None:
    env = "REDIS_PORT=x\nDB_PORT=Geheim7\nREPLICA_DB_NAME=m\nREPLICA_DATABASE_URL=Geheim7\n"
    assert set(wrong(env)) == {"REDIS_PORT", "DB_PORT", "REPLICA_DATABASE_URL"}
    assert set(wrong(env.replace("DB_PORT=Geheim7\n", ""))) == {
        "REDIS_PORT",
        "REPLICA_DATABASE_URL",
    }


def test_without_mastodons_file_each_missing_table_is_named() -> None:
    assert set(wrong(None)) == {"redis", "postgres"}
    through = '[connections]\nthrough = "pgbouncer"\n'
    got = wrong(None, through)
    assert set(got) == {"redis", "pgbouncer", "mastodon.database", "mastodon.role"}
    assert "Write a [pgbouncer] table" in got["pgbouncer"]


def test_a_file_that_is_not_needed_may_be_wrong() -> None:
    tables = '[redis]\nhost = "h"\n[postgres]\nhost = "h"\n'
    assert endpoints_of("DB_PORT=$(cat port)\nREDIS_URL=nonsense\n", tables).postgres is not None


@pytest.mark.parametrize(
    ("env", "config", "through", "named"),
    [
        (DIRECT, "", "postgres", True),
        (DIRECT + "DB_PORT=5433\n", "", "postgres", True),
        (BOUNCER, "", "pgbouncer", False),
        (None, "", "postgres", False),
        (DIRECT + "PGOPTIONS='-c a=b'\n", "", "postgres", False),
        (DIRECT + "DB_PORT=nonsense\n", "", "postgres", False),
        (BOUNCER, '[connections]\nthrough = "postgres"\n', "postgres", True),
        (DIRECT, '[pgbouncer]\nhost = "h"\n', "pgbouncer", False),
        (DIRECT, "[mastodon]\nname_connections = false\n", "postgres", False),
        (BOUNCER, "[mastodon]\nname_connections = true\n", "pgbouncer", True),
    ],
)
def test_connection_names_are_given_and_counted_only_at_postgres(
    env: str | None, config: str, through: str, named: bool
) -> None:
    port = "5433" if env and "5433" in env else "6432" if "through" in config else "5432"
    found = FoundPooler(kind="none", takes_names=True, place=f"10.0.0.2:{port}")
    got = route(parse(PROFILE + config), EnvFile(text=env), found)
    assert (got.through, got.named) == (through, named)
    assert got.countable is (named and through == "postgres")
    assert bool(got.unnamed_reason) is (not named and "name_connections" not in config)


DIRECTLY = FoundPooler(kind="none", takes_names=True)
ITS_PGBOUNCER = FoundPooler(kind="pgbouncer", version="1.18.0")
STRANGE = FoundPooler(kind="unknown")


@pytest.mark.parametrize(
    ("env", "found", "through", "named", "countable"),
    [
        (DIRECT, None, "postgres", False, True),
        (DIRECT, DIRECTLY, "postgres", True, True),
        (DIRECT, ITS_PGBOUNCER, "pgbouncer", False, False),
        (DIRECT, STRANGE, "postgres", False, False),
        (DIRECT + "DB_PORT=6543\n", ITS_PGBOUNCER, "pgbouncer", False, False),
        (DIRECT + "DB_PORT=6543\n", DIRECTLY, "postgres", True, True),
        (DIRECT + "DB_PORT=6432\n", DIRECTLY, "postgres", True, True),
        (DIRECT + "DB_PORT=6432\n", None, "pgbouncer", False, False),
        (DIRECT + "PREPARED_STATEMENTS=false\n", DIRECTLY, "postgres", True, True),
        (DIRECT + "PREPARED_STATEMENTS=false\n", STRANGE, "postgres", False, False),
        (DIRECT, structs.replace(DIRECTLY, takes_names=False), "postgres", False, False),
    ],
)
def test_what_answered_is_believed_more_than_the_port(
    env: str, found: FoundPooler | None, through: str, named: bool, countable: bool
) -> None:
    port = env.split("DB_PORT=")[1].split()[0] if "DB_PORT" in env else "5432"
    known = None if found is None else structs.replace(found, place=f"10.0.0.2:{port}")
    settings, given = parse(PROFILE), EnvFile(text=env)
    got = route(settings, given, known)
    assert (got.through, got.named, got.countable) == (through, named, countable)
    elsewhere = None if found is None else structs.replace(found, place="10.0.0.9:5432")
    assert route(settings, given, elsewhere) == route(settings, given)


def test_a_pooler_that_fleetd_does_not_know_is_named_as_that() -> None:
    settings = parse(PROFILE + '[network]\nprivate = ["10.0.0.0/24"]\n')
    found = find_endpoints(settings, EnvFile(text=DIRECT), structs.replace(STRANGE, place="10.0.0.2:5432"))
    assert any("A pooler that fleetd does not know answers" in warning for warning in found.warnings)
    assert found.postgres is not None
    found = find_endpoints(settings, EnvFile(text=DIRECT), structs.replace(ITS_PGBOUNCER, place="10.0.0.2:5432"))
    assert found.pgbouncer is not None
    assert "PgBouncer at 10.0.0.2:5432, because it answers as PgBouncer 1.18.0" in found.sentence


def test_the_policy_knows_whether_ours_can_be_told_apart() -> None:
    policy = parse(PROFILE).policy
    assert endpoints_of(DIRECT).policy(policy).connections.named is True
    assert endpoints_of(BOUNCER).policy(policy).connections.named is False


def test_where_workers_find_redis_is_known_if_fleetd_is_told_to_look_elsewhere() -> None:
    env = DIRECT + "REDIS_HOST=10.0.0.9\nREDIS_PORT=6380\nREDIS_DB=2\nREDIS_PASSWORD=Geheim9\n"
    assert endpoints_of(env).workers_redis == ""
    found = endpoints_of(env, '[redis]\nhost = "10.0.0.8"\n')
    assert (found.redis.place, found.workers_redis) == ("10.0.0.8:6379, database 0", "10.0.0.9:6380, database 2")


def test_connections_without_tls_are_warned_of_until_the_network_is_called_private() -> None:
    env = BOUNCER + "REDIS_HOST=10.0.0.9\n"
    config = OWN_POSTGRES + '[mastodon]\nenv_file = ""\nrole = "masto"\n'
    warned = endpoints_of(env, config + "[network]\n").warnings
    assert [warning.split(" is reached")[0] for warning in warned] == [
        "Redis at 10.0.0.9:6379",
        "PgBouncer at 10.0.0.2:6432",
        "Postgres at 10.0.0.3:5432",
    ]
    assert endpoints_of(env, config + '[network]\nprivate = ["10.0.0.0/24"]\n').warnings == ()


def test_a_server_may_be_given_the_password_in_the_clear_where_the_configuration_says_so() -> None:
    for named, allowed in (("", (False, False)), ('"pgbouncer"', (True, False)), ('"postgres"', (False, True))):
        found = endpoints_of(BOUNCER, f"{OWN_POSTGRES}[network]\ncleartext_password = [{named}]\n")
        assert found.pgbouncer is not None
        assert found.postgres is not None
        assert (found.pgbouncer.cleartext_password, found.postgres.cleartext_password) == allowed


def test_a_network_that_is_none_is_a_problem() -> None:
    told = wrong(BOUNCER, '[network]\nprivate = ["10.8.0.0/33"]\n')
    assert "10.8.0.0/33" in told["network.private"]


@pytest.mark.parametrize("host", ["DB_HOST=/var/run/postgresql\n", "DB_HOST=\n"])
def test_over_the_local_socket_without_a_password_fleetd_has_a_role_of_its_own(host: str) -> None:
    """As Mastodon's guide installs it: Postgres goes by the user, and fleetd is not mastodon."""
    env = f"REDIS_HOST=localhost\n{host}DB_USER=masto\nDB_NAME=m\nDB_PASS=\n"
    found = endpoints_of(env)
    assert found.postgres is not None
    assert (found.postgres.user, found.postgres.dbname) == ("fleetd", "m")
    assert found.limits_of == ("masto", None)
    assert found.sentence.endswith("as .env.production says, with fleetd's own role fleetd.")
    with_password = endpoints_of(env + "DB_PASS=secret\n")
    assert with_password.postgres is not None
    assert (with_password.postgres.user, with_password.limits_of) == ("masto", (None, None))
    elsewhere = endpoints_of(env + "DB_HOST=10.0.0.2\n")
    assert elsewhere.postgres is not None
    assert elsewhere.postgres.user == "masto"


def test_a_table_of_its_own_is_taken_as_it_is() -> None:
    found = endpoints_of(DIRECT, '[postgres]\nhost = "/run/postgresql"\nuser = "watcher"\n')
    assert found.postgres is not None
    assert found.postgres.user == "watcher"


@pytest.mark.parametrize(
    ("version", "env", "host"),
    [
        ("4.6.5", "REPLICA_DB_HOST=10.0.0.4\n", "10.0.0.4"),
        ("4.6.0-beta.1", "REPLICA_DB_HOST=10.0.0.4\nREPLICA_DB_USER=r\n", "10.0.0.4"),
        ("4.6.0", "REPLICA_DB_HOST=\n", None),  # set to nothing: libpq's own default, the socket
        ("4.5.15", "REPLICA_DB_NAME=\nREPLICA_DB_HOST=10.0.0.4\n", "10.0.0.4"),
        ("4.2.0", "REPLICA_DATABASE_URL=postgresql://10.0.0.4/m\n", "10.0.0.4"),
    ],
)
def test_what_turns_a_replica_on(version: str, env: str, host: str | None) -> None:
    found = endpoints_of(DIRECT + env, version=version)
    assert found.replica is not None
    assert found.replica.host == host


def test_before_4_6_a_replicas_host_alone_does_nothing_and_that_is_said() -> None:
    found = endpoints_of(DIRECT + "REPLICA_DB_HOST=10.0.0.4\n", version="4.5.15")
    assert found.replica is None
    assert [w for w in found.warnings if w.startswith("REPLICA_DB_HOST is set, but Mastodon uses a replica")]


@pytest.mark.parametrize(
    ("env", "matters"),
    [("", False), ("REPLICA_DB_HOST=10.0.0.4\n", True), ("REDIS_PASSWORD=Geheim7\n", True), ('A="a\\nb"\n', False)],
)
def test_an_unknown_version_is_said_where_it_makes_a_difference(env: str, matters: bool) -> None:
    found = endpoints_of(DIRECT + env, version="")
    said = [w for w in found.warnings if w.startswith("Which version of Mastodon runs is not known")]
    assert len(said) == matters
    assert found == endpoints_of(DIRECT + env, version="4.6.5") or matters
    assert endpoints_of(DIRECT + env, version="4.6.5").warnings == ()


@pytest.mark.parametrize(
    ("env", "pool"),
    [
        ("DATABASE_URL=postgresql://10.0.0.2/m?pool=5\n", 5),
        ("DATABASE_URL=postgresql://10.0.0.2/m?max_connections=7\n", 7),
        ("DATABASE_URL=postgresql://10.0.0.2/m?pool=5\nREPLICA_DATABASE_URL=postgresql://10.0.0.4/m?pool=9\n", 9),
        ("PRIMARY_DATABASE_URL=postgresql://10.0.0.2/m?pool=4\nDATABASE_URL=postgresql://10.0.0.9/m?pool=5\n", 4),
    ],
)
def test_a_pool_in_an_address_is_what_claims_are_made_of(env: str, pool: int) -> None:
    config = '[profiles.other]\nqueues = ["pull"]\ninstances = "4-5"\nthreads = 3\n'
    found = endpoints_of(env, config)
    policy = found.policy(parse(PROFILE + config).policy)
    assert [profile.db_pool for profile in policy.profiles] == [pool, pool]
    assert policy.scheduler.db_pool == pool
    assert [profile.claim_connections for profile in policy.profiles] == [pool, min(pool, 5)]
    (said,) = [w for w in found.warnings if w.startswith(f"pool={pool} in the address")]
    assert "default-first's 25 threads" in said
    assert "other's" not in said


def test_a_pool_that_says_what_is_configured_needs_no_word() -> None:
    config = "threads = 8\ndb_pool = 10\n[scheduler]\ndb_pool = 10\nthreads = 5\n"
    env = EnvFile(text="DATABASE_URL=postgresql:///m?pool=10&host=/run/postgresql\n", version="4.6.5")
    assert find_endpoints(parse(PROFILE + config), env).warnings == ()


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (
            "DATABASE_URL=postgresql://10.0.0.2/m?application_name=web\n",
            "DATABASE_URL has application_name=",
        ),
        ("DATABASE_URL=postgresql://10.0.0.2/m?options=-csearch_path%3Dx\n", "DATABASE_URL has options="),
        ("PRIMARY_DATABASE_URL=postgresql://10.0.0.2/m?options=-cx%3Dy\n", "PRIMARY_DATABASE_URL has options="),
        (DIRECT + "REPLICA_DATABASE_URL=postgresql://10.0.0.4/m?application_name=x\n", "REPLICA_DATABASE_URL has"),
        ("DATABASE_URL=postgresql://10.0.0.2/m?application_name=\n", None),
        (DIRECT + "PGOPTIONS='-c a=b'\n", ".env.production, line 5 uses PGOPTIONS itself"),
    ],
)
def test_an_address_that_names_connections_itself_takes_our_names_away(env: str, why: str | None) -> None:
    asked = FoundPooler(kind="none", takes_names=True, place="10.0.0.2:5432")
    settings = parse(PROFILE + '[network]\nprivate = ["10.0.0.0/24"]\n')
    got = route(settings, EnvFile(text=env, version="4.6.5"), asked)
    assert got.named is (why is None)
    assert (got.unnamed_reason or "").startswith(why or "")
    said = find_endpoints(settings, EnvFile(text=env, version="4.6.5"), asked).warnings
    assert [warning for warning in said if "have no names" in warning] == ([got.unnamed_reason] if why else [])


def test_several_hosts_are_said_and_kept() -> None:
    env = "DATABASE_URL='postgresql:///m?host=10.0.0.2,10.0.0.3&port=5432,5433&target_session_attrs=read-write'\n"
    found = endpoints_of(env)
    assert found.postgres is not None
    assert (found.postgres.host, found.postgres.ports) == ("10.0.0.2,10.0.0.3", (5432, 5433))
    assert found.postgres.more == (("target_session_attrs", "read-write"),)
    assert (
        "Postgres, or a pooler (not asked yet), at 10.0.0.2,10.0.0.3:5432,5433, as .env.production says."
        in found.sentence
    )
    assert endpoints_of(env.replace("5433", "6432")).pgbouncer is not None


def test_other_files_and_the_unit_are_where_mastodon_looks_first() -> None:
    settings = parse(PROFILE + '[network]\nprivate = ["10.0.0.0/24"]\n')
    env = EnvFile(
        path="/m/.env.production",
        text=DIRECT + "REDIS_HOST=10.0.0.9\n",
        beside=((".env.local", "DB_USER=local\n"), (".env", "DB_SSLMODE=require\nDB_USER=last\n")),
        environment=(("RAILS_ENV", "production"), ("DB_HOST", "10.0.0.7")),
        version="4.6.5",
    )
    found = find_endpoints(settings, env)
    assert found.postgres is not None
    assert (found.postgres.host, found.postgres.user, found.postgres.sslmode) == ("10.0.0.7", "local", "require")
    source = "as .env.production, .env.local, .env and the workers' unit say."
    assert found.redis_sentence == f"Redis is read at 10.0.0.9:6379, database 0, {source}"
    assert found.sentence.endswith(f"Postgres, or a pooler (not asked yet), at 10.0.0.7:5432, {source}")


def test_where_a_wrong_setting_stands_is_said() -> None:
    settings = parse(PROFILE)
    env = EnvFile(
        path="/m/.env.production",
        text="\nREDIS_PORT=Geheim7\n",
        beside=((".env.local", "\n\n  DB_PORT='Geheim7' # x\n"),),
        environment=(("REDIS_DB", "Geheim7"),),
        version="4.6.5",
    )
    with pytest.raises(ConfigError) as raised:
        find_endpoints(settings, env)
    told = {problem.path: problem.what for problem in raised.value.problems}
    assert told["REDIS_PORT"].startswith("in .env.production, line 2: ")
    assert told["DB_PORT"].startswith("in .env.local, line 3: ")
    assert told["REDIS_DB"].startswith("in Environment= of the workers' unit: ")
    assert "Geheim" not in str(raised.value)


def test_another_rails_environment_is_refused() -> None:
    env = EnvFile(text=DIRECT, environment=(("RAILS_ENV", "staging"),))
    with pytest.raises(ConfigError, match="RAILS_ENV: is not production"):
        find_endpoints(parse(PROFILE), env)


def test_an_empty_user_is_the_account_of_the_workers() -> None:
    env = EnvFile(text="DB_HOST=\nDB_USER=\nDB_NAME=\n", user="masto", version="4.6.5")
    found = find_endpoints(parse(PROFILE), env)
    assert found.postgres == PostgresSettings(host=None, user="fleetd", dbname="masto")
    assert found.limits_of == ("masto", None)
    with pytest.raises(ConfigError, match="DB_USER: is empty, so workers log in by the name of their account"):
        find_endpoints(parse(PROFILE), structs.replace(env, user=""))


def test_without_a_file_the_units_own_settings_are_enough() -> None:
    gone = EnvFile(path="/m/.env.production", why="there is no such file", missing=True, version="4.6.5")
    own = structs.replace(gone, environment=(("DATABASE_URL", "postgresql://m@/d?host=/run/pg"), ("REDIS_HOST", "::1")))
    with pytest.raises(ConfigError, match="REDIS_HOST"):
        find_endpoints(parse(PROFILE), own)
    with pytest.raises(ConfigError, match="there is no such file"):
        find_endpoints(parse(PROFILE), structs.replace(gone, environment=(("RAILS_ENV", "production"),)))


def test_an_environment_file_that_cannot_be_read_is_said() -> None:
    said = "EnvironmentFile=/etc/x of mastodon-sidekiq@.service can't be read: user mastodon may not."
    assert said in find_endpoints(parse(PROFILE), EnvFile(text="DB_HOST=/a\n", unit_problem=said)).warnings
