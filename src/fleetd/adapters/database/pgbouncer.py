"""PgBouncer's client slots and pools, read from its admin console (port PgBouncerSource).

The console is the database `pgbouncer`, for users in `stats_users` or `admin_users`. It takes only the simple query
protocol, with one command in each query ("SHOW LISTS; SHOW POOLS" is invalid), so a reading is three round trips:
LISTS, POOLS and DATABASES. CONFIG and USERS, which change only with a reload, are read on connecting and once a minute.
Each command takes PgBouncer 0.1 to 0.3 ms (benchmarks/connections_watch.md).

What was feared:
- A query to the server behind PgBouncer instead: it takes a server connection from Mastodon's pool, and waits in line
  for one just when the line is what must be known.
- PgBouncer lets the console in beyond `max_client_conn`, so a login that succeeds does not mean headroom: only the
  numbers do.
- Load, a hung server, secrets: see connection.py.

What its rows mean:
- `used_clients` of SHOW LISTS counts every client, those of the console too; `max_client_conn` of SHOW CONFIG limits it
  for all but the console.
- The most a pool may hold (server.c, objects.c): the user's `pool_size` if SHOW USERS has one (1.23), else the
  database's; plus `reserve_pool` (1.24: `reserve_pool_size`) unless `reserve_pool_timeout` is 0; but never more than
  the database's `max_connections` and the user's `max_user_connections`, where 0 means no limit.
- 1.24 limits clients by database (`max_client_connections`) and by user (`max_user_client_connections`) as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import psycopg

from fleetd.adapters.database.connection import Connection, ConnectionSource, Row, shortened
from fleetd.adapters.database.login import Login
from fleetd.config.connections import CONSOLE, PostgresSettings
from fleetd.core.model.bounds import BOUNDS, ImpossibleNumberError, Unit, essential, real
from fleetd.core.model.facts import PgBouncerFacts, PoolFacts, Value
from fleetd.errors import SourceUnavailableError

SETTINGS_SECONDS = 60.0
#: The answer to one command. A pool, a database or a user takes about 150 bytes.
SHOWN_BYTES_MAX = 1024 * 1024
#: A wildcard database may make any number of pools; Mastodon's own is always kept.
POOLS_MAX = 256
NAME_LENGTH_MAX = 128  # PgBouncer's own limit
_NO_CONSOLE = (
    "{where} does not answer as the console of PgBouncer 1.18 to 1.25 does{lacking}: is that PgBouncer? If Mastodon "
    'reaches Postgres directly, set connections.through = "postgres"'
)


class PgBouncerConsole(ConnectionSource[PgBouncerFacts]):
    """Reads the console at `settings` (its dbname does not matter).

    `mastodon`: database and user that the workers connect with. `monotonic`: seconds, for the pauses between attempts
    to connect and the age of the settings. `identity`: see PgBouncerFacts.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        mastodon: tuple[str, str],
        monotonic: Callable[[], float],
        deadline_seconds: float = 3.0,
        identity: str = "",
    ) -> None:
        never_counted = PgBouncerFacts(
            client_limit_connections=0,
            client_connections=0,
            own_connections=0,
            pools=(),
            mastodon=mastodon,
            refused=True,
        )
        super().__init__(
            Login(msgspec.structs.replace(settings, dbname=CONSOLE), deadline_seconds, kind="pgbouncer"),
            before_first=never_counted,
            monotonic=monotonic,
            deadline_seconds=deadline_seconds,
        )
        self._mastodon = mastodon
        self._identity = identity
        self._settings: ConsoleSettings | None = None
        self._settings_from: Connection | None = None
        self._settings_seconds = 0.0

    async def _count(self, connection: Connection) -> PgBouncerFacts:
        try:
            settings = await self._current_settings(connection)
            lists = await _show(connection, "LISTS")
            pools = await _show(connection, "POOLS")
            databases = await _show(connection, "DATABASES")
            facts = facts_from(settings, lists, pools, databases, self._mastodon)
            return msgspec.structs.replace(facts, identity=self._identity)
        except ImpossibleNumberError as error:
            raise SourceUnavailableError(f"{self._login.where} can't be right: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration, psycopg.ProgrammingError) as error:
            lacking = f" ({error})" if isinstance(error, KeyError) else ""
            raise SourceUnavailableError(_NO_CONSOLE.format(where=self._login.where, lacking=lacking)) from None

    async def _current_settings(self, connection: Connection) -> ConsoleSettings:
        now = self._monotonic()
        known = self._settings if self._settings_from is connection else None
        if known is None or now - self._settings_seconds >= SETTINGS_SECONDS:
            known = settings_from(await _show(connection, "CONFIG"), await _show(connection, "USERS"))
            self._settings, self._settings_from, self._settings_seconds = known, connection, now
        return known

    def _refuses(self, error: psycopg.Error) -> bool:
        text = self._login.clean(error)
        user = self._login.user
        if "not allowed" in text and "connections" not in text:
            raise SourceUnavailableError(
                f"{self._login.where} does not let {user} use its console: add it in pgbouncer.ini, stats_users = "
                f"{user} (no quotes), and RELOAD; or name another user under [pgbouncer], who also needs a line in "
                "auth_file"
            )
        if "does not exist" in text:
            raise SourceUnavailableError(_NO_CONSOLE.format(where=self._login.where, lacking=""))
        if "max_user_client_connections" in text and user != self._mastodon[1]:
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, whose user is at its max_user_client_connections: "
                "raise it, or name another user under [pgbouncer]"
            )
        if "max_db_client_connections" in text:
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, because max_db_client_connections clients are at "
                "its console: close some, or add fleetd's user to admin_users"
            )
        return "no more connections allowed" in text or "client connections exceeded" in text


async def _show(connection: Connection, what: str) -> list[Row]:
    connection.allow(SHOWN_BYTES_MAX)
    async with connection.cursor() as cursor:
        await cursor.execute(f"SHOW {what}".encode())
        return await cursor.fetchall()


class ConsoleSettings(Value, frozen=True, kw_only=True):
    """What changes only when PgBouncer reloads: SHOW CONFIG and SHOW USERS."""

    config: dict[str, str]
    users: dict[str, Row]

    def number(self, key: str, unit: Unit = "connections") -> int:
        """A number of the configuration, rounded up (1.25: `12.5` for some times); 0 where this version lacks it."""
        number = real(self.config.get(key) or 0, unit)
        if number is None:
            raise ImpossibleNumberError(key, BOUNDS[unit])
        return math.ceil(number)

    def limit(self, row: Row, column: str, key: str) -> int:
        """What a database or a user may have: by its own row, else by the configuration; 0: no limit."""
        own = _number(row, column)
        return self.number(key) if own is None else own


def settings_from(config: list[Row], users: list[Row]) -> ConsoleSettings:
    """Raises KeyError, TypeError, AttributeError or ValueError when this is not the answer of PgBouncer's console."""
    settings = ConsoleSettings(
        config={row["key"]: str(row["value"] if row["value"] is not None else "") for row in config},
        users={row["name"]: row for row in users},
    )
    if not settings.number("max_client_conn"):
        raise KeyError("max_client_conn")
    return settings


def facts_from(
    settings: ConsoleSettings, lists: list[Row], pools: list[Row], databases: list[Row], mastodon: tuple[str, str]
) -> PgBouncerFacts:
    """Raises KeyError, TypeError, AttributeError or ValueError when this is not the answer of PgBouncer's console."""
    known = {row["name"]: row for row in databases}
    database, login = mastodon
    # `user=` in [databases] makes every client of the database use one pool, of that user.
    user = known.get(database, {}).get("force_user") or login
    used = next(_count(row, "items") for row in lists if row["list"] == "used_clients")
    read = [_pool(settings, row, known.get(row["database"], {})) for row in pools if row["database"] != CONSOLE]
    read.sort(key=lambda pool: ((pool.database, pool.user) != (database, user), -pool.client_connections))
    return PgBouncerFacts(
        client_limit_connections=_client_limit(settings, used, read, known.get(database, {}), mastodon),
        client_connections=used,
        own_connections=1,
        pools=tuple(read[:POOLS_MAX]),
        mastodon=(_shown(database), _shown(user)),
        forgets_statements=_forgets_statements(settings, known.get(database, {}), settings.users.get(user, {})),
    )


def _forgets_statements(settings: ConsoleSettings, database: Row, user: Row) -> bool:
    """In transaction or statement mode; from 1.21 on not, with `max_prepared_statements`."""
    modes = (str(mode or "").strip() for mode in (user.get("pool_mode"), database.get("pool_mode")))
    mode = next((mode for mode in modes if mode), settings.config.get("pool_mode", "session"))
    return mode != "session" and not settings.number("max_prepared_statements")


def _pool(settings: ConsoleSettings, row: Row, database: Row) -> PoolFacts:
    return PoolFacts(
        database=_shown(row["database"]),
        user=_shown(row["user"]),
        client_connections=_count(row, "cl_active") + _count(row, "cl_waiting"),
        waiting_clients=_count(row, "cl_waiting"),
        longest_wait_seconds=essential(row["maxwait"], "maxwait", "seconds")
        + essential(row.get("maxwait_us") or 0, "maxwait_us", "seconds") / 1e6,
        active_servers=_count(row, "sv_active"),
        server_connections=sum(_count(row, key) for key in row if key.startswith("sv_") and row[key] is not None),
        size_connections=_size(settings, database, settings.users.get(row["user"], {})),
    )


def _size(settings: ConsoleSettings, database: Row, user: Row) -> int:
    """The most server connections a pool may hold; where nothing limits it, as many as there may be clients."""
    # 1.23 to 1.25 repeat the database's size for a user without one of its own, so this only ever lowers it.
    size = _least(settings.limit(database, "pool_size", "default_pool_size"), _number(user, "pool_size") or 0)
    if size and settings.number("reserve_pool_timeout", "seconds"):
        column = "reserve_pool_size" if "reserve_pool_size" in database else "reserve_pool"
        size += settings.limit(database, column, "reserve_pool_size")
    return _least(
        size,
        settings.limit(database, "max_connections", "max_db_connections"),
        settings.limit(user, "max_user_connections", "max_user_connections"),
    ) or settings.number("max_client_conn")


def _client_limit(
    settings: ConsoleSettings, used: int, pools: list[PoolFacts], database: Row, mastodon: tuple[str, str]
) -> int:
    """The limit of all clients: max_client_conn, or what Mastodon may have besides the clients of others."""
    name, login = mastodon
    user = settings.users.get(login, {})
    # Clients count for the user they log in as. The pool of a forced user does not name it: in doubt it is this one.
    of_user = sum(pool.client_connections for pool in pools if login == pool.user or name == pool.database)
    of_database = _number(database, "current_client_connections") or 0
    limits = (
        (settings.limit(database, "max_client_connections", "max_db_client_connections"), of_database),
        (settings.limit(user, "max_user_client_connections", "max_user_client_connections"), of_user),
    )
    of_mastodon = [limit + max(0, used - counted) for limit, counted in limits if limit]
    return min([settings.number("max_client_conn"), *of_mastodon])


def _least(*limits: int) -> int:
    """The least of the limits that are set; 0: none is."""
    return min((limit for limit in limits if limit), default=0)


def _shown(name: str) -> str:
    return shortened(name, NAME_LENGTH_MAX)


def _number(row: Row, column: str) -> int | None:
    """None: there is no such column, or it is not filled (1.24 pads some with blanks)."""
    value = row.get(column)
    if isinstance(value, str):
        value = value.strip()
    return None if value in (None, "") else essential(value, column, "connections")


def _count(row: Row, column: str) -> int:
    return essential(row[column], column, "connections")
