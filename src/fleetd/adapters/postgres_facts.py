"""The one query, and what its row says.

Who takes a slot of max_connections: client backends (walsenders, autovacuum and background workers have slots of
their own since PostgreSQL 12). What counts towards rolconnlimit and datconnlimit: walsenders, and for the database
autovacuum workers, too (procarray.c, CountUserBackends and CountDBConnections: all but background workers).

Privileges: `datid`, `usename` and `application_name` of every row are shown to every role; `backend_type` of other
roles' rows only with pg_monitor or pg_read_all_stats. A filter on it undercounts in silence. So a row that has a
database and hides its kind is counted as a client: an upper bound, too high by other roles' parallel workers and
logical walsenders at most, and exact with the privilege. A client still logging in is not in the view at all (up to
PostgreSQL 17): that is what `reserve` is for.
"""

from __future__ import annotations

from typing import Any

from fleetd.core.facts import DatabaseFacts, Value
from fleetd.core.identity import APPLICATION_NAME_PREFIX
from fleetd.errors import SourceUnavailableError

#: Names of ours that are told apart; workers beyond that count as others, which is the careful side.
WORKER_NAMES_MAX = 512

#: One round trip. SET LOCAL inside a transaction, and no startup option: PgBouncer refuses those, and a plain SET
#: through it would stick to a server connection that Mastodon uses next.
QUERY = """
BEGIN READ ONLY;
SET LOCAL statement_timeout = %(timeout_milliseconds)s;
WITH target AS (
  SELECT coalesce(%(role)s::name, current_user) AS role,
         coalesce(%(database)s::name, current_database()) AS database
), seen AS MATERIALIZED (
  SELECT usename, datname, application_name,
         backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL) AS client,
         backend_type IN ('client backend', 'walsender', 'autovacuum worker')
           OR (backend_type IS NULL AND datid IS NOT NULL) AS limited,
         backend_type IS NULL AND datid IS NOT NULL AS hidden
  FROM pg_catalog.pg_stat_activity
), workers AS (
  SELECT application_name, count(*) AS connections
  FROM seen, target
  WHERE client AND datname = target.database AND starts_with(application_name, %(prefix)s)
  GROUP BY application_name ORDER BY connections DESC, application_name LIMIT %(names_max)s
)
SELECT
  pg_is_in_recovery() AS in_recovery,
  current_user AS own_user,
  target.role AS role,
  target.database AS database,
  current_setting('max_connections')::int AS max_connections,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved_connections,
  (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = target.role) AS role_limit,
  (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = target.database) AS database_limit,
  (SELECT count(*) FROM seen WHERE client) AS clients,
  (SELECT count(*) FROM seen WHERE limited AND usename = target.role) AS of_role,
  (SELECT count(*) FROM seen WHERE limited AND datname = target.database) AS of_database,
  (SELECT count(*) FROM seen WHERE hidden) AS hidden,
  (SELECT count(*) FROM seen WHERE client AND application_name = 'fleetd'
     AND usename = current_user AND datname = current_database()) AS own,
  (SELECT coalesce(json_object_agg(application_name, connections), '{}') FROM workers) AS workers
FROM target;
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
    }


class Counted(Value, frozen=True, kw_only=True):
    """A good count; `hidden_connections`: rows counted as clients because their kind is hidden from `user`."""

    facts: DatabaseFacts
    hidden_connections: int
    user: str


def facts_from(row: dict[str, Any] | None, where: str) -> Counted | SourceUnavailableError:
    """The facts in the query's row, or why its numbers are not those that were asked for."""
    if row is None:
        return SourceUnavailableError(f"{where} gave no row: is that really Postgres?")
    if row["in_recovery"]:
        return SourceUnavailableError(
            f"{where} is a standby (in recovery): its connections are not the primary's. Point fleetd at the primary"
        )
    if row["role_limit"] is None:
        return SourceUnavailableError(
            f"{where} has no role {row['role']}: check the configured Mastodon role"
        )
    if row["database_limit"] is None:
        return SourceUnavailableError(
            f"{where} has no database {row['database']}: check the configured Mastodon database"
        )
    return Counted(
        facts=DatabaseFacts(
            max_connections=row["max_connections"],
            reserved_connections=row["reserved_connections"],
            role_limit_connections=_limit(row["role_limit"]),
            database_limit_connections=_limit(row["database_limit"]),
            client_connections=row["clients"],
            role_connections=row["of_role"],
            database_connections=row["of_database"],
            worker_connections=dict(row["workers"]),
            own_connections=row["own"],
        ),
        hidden_connections=row["hidden"],
        user=row["own_user"],
    )


def _limit(value: int) -> int | None:
    return None if value < 0 else value
