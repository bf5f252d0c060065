"""Connections of a Postgres cluster, read over one kept connection (port DatabaseSource): the primary, or a replica.

What was feared, and where it is met:
- A reading that shows headroom where there is none. When Postgres hides the kind of other roles' rows, they count as
  clients (see QUERY), so the count is never too low. The numbers of a standby where the primary is meant, or of a
  missing role, are refused.
- "Too many clients" (SQLSTATE 53300) taken for a failure. It is an answer: headroom is zero.
- Load, a hung server, secrets: see connection.py.

Client backends take slots of max_connections (since PostgreSQL 12 walsenders, autovacuum and background workers have
slots of their own). Walsenders count towards rolconnlimit as well, and towards datconnlimit so do autovacuum workers
(procarray.c, CountUserBackends and CountDBConnections: all but background workers).

Privileges: every role sees `datid`, `usename` and `application_name` of every row, but `backend_type`, `state` and
`client_addr` of other roles' rows only with pg_monitor or pg_read_all_stats. A filter on those would silently count too
few. So a row with a database and a hidden kind counts as a client. That is an upper bound, too high by other roles'
parallel workers and logical walsenders at most, and exact with the privilege. A client that is still logging in is not
in the view at all (up to PostgreSQL 17); `reserve` is for these.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import structlog

from fleetd.adapters.database.connection import Connection, ConnectionSource, Row, shortened
from fleetd.adapters.database.login import Login, refusal
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.bounds import ImpossibleNumberError, essential, whole
from fleetd.core.model.facts import Consumer, DatabaseFacts
from fleetd.core.model.identity import APPLICATION_NAME_PREFIX
from fleetd.errors import SourceUnavailableError

_log = structlog.get_logger("fleetd.postgres")

#: The answer to QUERY is one row, which the names of 2,000 workers make 280 kB long at most.
ANSWER_BYTES_MAX = 512 * 1024
_TOO_MANY_CONNECTIONS = "53300"
#: Names of our workers that are listed; further workers count as others, which errs on the safe side.
WORKER_NAMES_MAX = 2000
#: Other clients that are listed, most connections first; the rest is one more entry.
CONSUMERS_MAX = 12
CONSUMER_WORD_LENGTH_MAX = 40

#: For a refusal before the first good reading; only `refused` means anything in it.
_NEVER_COUNTED = DatabaseFacts(
    max_connections=0,
    reserved_connections=0,
    role_limit_connections=None,
    database_limit_connections=None,
    client_connections=0,
    role_connections=0,
    database_connections=0,
    worker_connections={},
    own_connections=0,
    refused=True,
)


class PostgresConnections(ConnectionSource[DatabaseFacts]):
    """Reads how many connections Mastodon's role can still open.

    `mastodon_role`, `mastodon_database`: whose limits bind, when fleetd logs in with a role or database of its own;
    None: the ones it logs in with. `standby`: this is a replica, which is usually in recovery (one that is not is read
    as well: people try their settings so). `monotonic`: seconds, for the pauses between attempts to connect.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        monotonic: Callable[[], float],
        mastodon_role: str | None = None,
        mastodon_database: str | None = None,
        standby: bool = False,
        deadline_seconds: float = 3.0,
    ) -> None:
        super().__init__(
            Login(settings, deadline_seconds, kind="replica" if standby else "postgres"),
            before_first=_NEVER_COUNTED,
            monotonic=monotonic,
            deadline_seconds=deadline_seconds,
        )
        self._role = mastodon_role
        self._database = mastodon_database
        self._standby = standby
        self._said_upper_bound = False
        self._identifier = ""
        self._identified_over: Connection | None = None

    async def _count(self, connection: Connection) -> DatabaseFacts:
        row: Row | None = None
        connection.allow(ANSWER_BYTES_MAX)
        async with connection.cursor() as cursor:
            await cursor.execute(QUERY, query_parameters(self._role, self._database, self._deadline_seconds))
            while cursor.description is None and cursor.nextset():  # BEGIN and SET answer without rows
                pass
            if cursor.description is not None:
                row = await cursor.fetchone()
        if row is None:
            raise SourceUnavailableError(f"{self._login.where} gave no row: is that really Postgres?")
        facts = facts_from(row, self._login.where, standby=self._standby)
        # The id that came with the login is the backend's, unless a pooler made up one of its own: see pooler.py.
        if row.get("backend_pid", connection.info.backend_pid) != connection.info.backend_pid:
            facts = msgspec.structs.replace(facts, pooled=True)
        facts = msgspec.structs.replace(facts, identity=await self._identity(connection, row))
        if not facts.exact and not self._said_upper_bound:
            self._said_upper_bound = True
            _log.warning(
                f"{self._login.where} hides the kind of other roles' connections from this role, so every one of them "
                f"counts as a client, which may be too many. To count exactly: GRANT pg_monitor TO {row['own_user']}"
            )
        return facts

    async def _identity(self, connection: Connection, row: Row) -> str:
        """The cluster's own identifier, asked for once a connection. A role that may not ask has the address."""
        if self._identified_over is not connection:
            self._identifier = self._login.where
            connection.allow(ANSWER_BYTES_MAX)
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(IDENTITY_QUERY)
                    found = await cursor.fetchone()
                if found is not None:
                    self._identifier = str(found["system_identifier"])[:IDENTIFIER_LENGTH_MAX]
            except psycopg.OperationalError:
                raise
            except (psycopg.Error, LookupError):
                pass
            self._identified_over = connection
        return f"{self._identifier} standby" if row["in_recovery"] else self._identifier

    def _refuses(self, error: psycopg.Error) -> bool:
        which = refusal(error)
        if which is None:
            return error.sqlstate == _TOO_MANY_CONNECTIONS
        if (which == "role" and self._role not in (None, self._login.user)) or (
            which == "database" and self._database not in (None, self._login.database)
        ):
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, whose {which} is at its connection limit: raise it "
                f"(ALTER {which.upper()} … CONNECTION LIMIT)"
            )
        return True


#: A replica has the identifier of its primary.
IDENTITY_QUERY = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
IDENTIFIER_LENGTH_MAX = 80

#: One round trip. SET LOCAL inside a transaction, and no startup option: PgBouncer refuses those, and a plain SET
#: through it would stick to a server connection that Mastodon uses next.
QUERY = """
BEGIN READ ONLY;
SET LOCAL statement_timeout = %(timeout_milliseconds)s;
WITH target AS (
  SELECT coalesce(%(role)s::name, current_user) AS role,
         coalesce(%(database)s::name, current_database()) AS database
), activity AS (
  SELECT usename, datname, application_name, client_addr, state, wait_event_type, backend_type,
         backend_type IS NULL AND datid IS NOT NULL AS hidden
  FROM pg_catalog.pg_stat_activity
), seen AS (
  SELECT usename, application_name, hidden,
         backend_type = 'client backend' OR hidden AS client,
         backend_type IN ('client backend', 'walsender', 'autovacuum worker') OR hidden AS limited,
         usename = target.role AS of_role,
         datname = target.database AS of_database,
         application_name = 'fleetd' AND usename = current_user AND datname = current_database() AS own,
         datname = target.database AND left(application_name, length(%(prefix)s)) = %(prefix)s AS worker,
         CASE WHEN hidden THEN 'an unknown address' ELSE coalesce(host(client_addr), 'the local socket') END AS address,
         state = 'active' AS active,
         hidden OR state = 'disabled' AS secret,
         wait_event_type IN ('Lock', 'LWLock', 'IO', 'BufferPin') AS stalled
  FROM activity, target
), workers AS (
  SELECT application_name, count(*) AS connections
  FROM seen WHERE client AND worker
  GROUP BY application_name ORDER BY connections DESC, application_name LIMIT %(names_max)s
), consumers AS (
  SELECT usename, address, application_name, count(*) AS connections
  FROM seen WHERE client AND worker IS NOT TRUE AND own IS NOT TRUE
  GROUP BY usename, address, application_name
  ORDER BY connections DESC, usename, address, application_name LIMIT %(consumers_max)s
), mastodon AS (
  SELECT count(*) FILTER (WHERE active) AS active,
         count(*) FILTER (WHERE active AND stalled) AS stalled,
         count(*) FILTER (WHERE secret) AS secret
  FROM seen WHERE client AND of_role AND of_database AND own IS NOT TRUE
), totals AS (
  SELECT count(*) FILTER (WHERE client) AS clients,
         count(*) FILTER (WHERE limited AND of_role) AS of_role,
         count(*) FILTER (WHERE limited AND of_database) AS of_database,
         count(*) FILTER (WHERE hidden) AS hidden,
         count(*) FILTER (WHERE client AND own) AS own
  FROM seen
)
SELECT
  pg_is_in_recovery() AS in_recovery,
  current_user AS own_user,
  pg_backend_pid() AS backend_pid,
  target.role AS role,
  target.database AS database,
  current_setting('max_connections')::int AS max_connections,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved_connections,
  (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = target.role) AS role_limit,
  (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = target.database) AS database_limit,
  totals.*,
  (SELECT coalesce(json_object_agg(application_name, connections), '{}') FROM workers) AS workers,
  (SELECT coalesce(json_agg(json_build_array(usename, address, application_name, connections)), '[]')
     FROM consumers) AS consumers,
  CASE WHEN secret = 0 THEN active END AS active,
  CASE WHEN secret = 0 THEN stalled END AS stalled
FROM target, totals, mastodon;
COMMIT
"""


def query_parameters(role: str | None, database: str | None, timeout_seconds: float) -> dict[str, Any]:
    """Parameters of QUERY; None: the role or database of the login."""
    return {
        "role": role,
        "database": database,
        "timeout_milliseconds": max(1, int(timeout_seconds * 1000)),
        "prefix": APPLICATION_NAME_PREFIX,
        "names_max": WORKER_NAMES_MAX,
        "consumers_max": CONSUMERS_MAX,
    }


def facts_from(row: Row, where: str, *, standby: bool) -> DatabaseFacts:
    """The facts in the query's row. Raises SourceUnavailableError when it is not the server that was meant."""
    try:
        return _facts_from(row, where, standby)
    except ImpossibleNumberError as error:
        raise SourceUnavailableError(f"{where} can't be right: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise SourceUnavailableError(f"{where} does not answer as Postgres does: is that really Postgres?") from None


def _facts_from(row: Row, where: str, standby: bool) -> DatabaseFacts:
    if row["in_recovery"] and not standby:
        raise SourceUnavailableError(
            f"{where} is a standby (in recovery): its connections are not the primary's. Point fleetd at the primary"
        )
    if row["role_limit"] is None:
        raise SourceUnavailableError(f"{where} has no role {row['role']}: check the configured Mastodon role")
    if row["database_limit"] is None:
        raise SourceUnavailableError(
            f"{where} has no database {row['database']}: check the configured Mastodon database"
        )
    workers = {name: essential(count, "workers", "connections") for name, count in json.loads(row["workers"]).items()}
    clients, own = _count(row, "clients"), _count(row, "own")
    return DatabaseFacts(
        max_connections=_count(row, "max_connections"),
        reserved_connections=_count(row, "reserved_connections"),
        role_limit_connections=_limit(row, "role_limit"),
        database_limit_connections=_limit(row, "database_limit"),
        client_connections=clients,
        role_connections=_count(row, "of_role"),
        database_connections=_count(row, "of_database"),
        worker_connections=workers,
        own_connections=own,
        consumers=consumers_from(json.loads(row["consumers"]), clients - sum(workers.values()) - own),
        exact=_count(row, "hidden") == 0,
        active_backends=whole(row["active"], "connections"),
        stalled_backends=whole(row["stalled"], "connections"),
    )


def consumers_from(groups: list[list[Any]], others_connections: int) -> tuple[Consumer, ...]:
    """From [role, address, application name, connections]; the rest of all others' connections is one more entry.

    Raises ImpossibleNumberError, TypeError or ValueError when that is not what they hold.
    """
    named = [
        Consumer(name=_consumer(*words), connections=essential(count, "consumers", "connections"))
        for *words, count in groups
    ]
    rest = others_connections - sum(consumer.connections for consumer in named)
    return (*named, *([Consumer(name="others", connections=rest)] if rest > 0 else []))


def _consumer(role: str | None, address: str, application: str | None) -> str:
    name = f"{_word(role) if role else 'a dropped role'} from {address}"
    return f"{name} ({_word(application)})" if application else name


def _word(name: str) -> str:
    return shortened(name, CONSUMER_WORD_LENGTH_MAX)


def _count(row: Row, column: str) -> int:
    return essential(row[column], column, "connections")


def _limit(row: Row, column: str) -> int | None:
    """None: no limit, which Postgres writes as -1."""
    return None if row[column] == -1 else _count(row, column)
