"""The services of a main or database VM: Debian's Redis, Sentinel, PostgreSQL and PgBouncer, configured for the lab.

Call these before the host boots, or restart the service afterwards.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.hosts import disk, holder
from lab.hosts.host import Host
from lab.setup import cache

DATABASE = "mastodon_production"
DB_PASSWORD = "lab-mastodon"  # noqa: S105 - not a secret: it is valid only in the lab
MONITOR_PASSWORD = "lab-fleetd"  # noqa: S105
STATS_PASSWORD = "lab-stats"  # noqa: S105
REPLICATION_PASSWORD = "lab-replication"  # noqa: S105
SENTINEL_MASTER = "mymaster"
SENTINEL_PORT = 26379

_ROLES = f"""
CREATE ROLE mastodon LOGIN CREATEDB PASSWORD '{DB_PASSWORD}';
CREATE ROLE fleetd LOGIN PASSWORD '{MONITOR_PASSWORD}';
GRANT pg_monitor TO fleetd;
CREATE ROLE replication LOGIN REPLICATION PASSWORD '{REPLICATION_PASSWORD}';
CREATE DATABASE {DATABASE} OWNER mastodon TEMPLATE template0;
"""
#: Debian's unit waits for two seconds to be sure that Postgres is up. Postgres itself tells systemd at once.
_STARTED = """[Service]
Type=notify
ExecStart=
ExecStart=/usr/bin/pg_ctlcluster --skip-systemctl-redirect --foreground --stdlog %i start
"""
_TABLES = """
CREATE TABLE accounts (id bigserial PRIMARY KEY, username text NOT NULL, statuses_count bigint NOT NULL DEFAULT 0);
INSERT INTO accounts (username) SELECT 'user' || number FROM generate_series(1, 1000) number;
ALTER TABLE accounts OWNER TO mastodon;
"""
_HBA = f"""local all postgres peer
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all {holder.NETWORK}.0.0/16 scram-sha-256
host replication replication {holder.NETWORK}.0.0/16 scram-sha-256
"""


def redis(host: Host, password: str | None = None, *, replica_of: str = "", users: Sequence[str] = ()) -> None:
    """Redis for the whole lab on port 6379. It loses nothing even when it is killed.

    `replica_of`: the address of its primary, if it is to begin as a replica. Sentinels may change that later.
    `users`: what follows ACL SETUSER, one for each user besides the default one.
    """
    secret = "" if password is None else f"requirepass {password}\nmasterauth {password}\n"
    primary = f"replicaof {replica_of} 6379\n" if replica_of else ""
    acl = "".join(f"user {user}\n" for user in users)
    host.write(
        "/etc/redis/redis.conf",
        "bind * -::*\nprotected-mode no\nport 6379\ndir /var/lib/redis\nloglevel notice\nlogfile ''\n"
        f'save ""\nappendonly yes\nappendfsync always\ntcp-keepalive 60\n'
        f"repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n{secret}{acl}{primary}",
        mode=0o640,
        owner="redis",
    )


def sentinel(host: Host, primary: str, *, quorum: int = 2, down_after_seconds: float = 5.0) -> None:
    """A Sentinel on port 26379. It watches the Redis at the address `primary` as SENTINEL_MASTER, with all replicas.

    Its failovers begin when `quorum` Sentinels have had no answer for `down_after_seconds`, and when more than half
    of all agree on who does it.
    """
    name = SENTINEL_MASTER
    host.write(
        "/etc/redis/sentinel.conf",
        f"bind * -::*\nprotected-mode no\nport {SENTINEL_PORT}\ndir /var/lib/redis\nlogfile ''\n"
        f"sentinel monitor {name} {primary} 6379 {quorum}\n"
        f"sentinel down-after-milliseconds {name} {down_after_seconds * 1000:.0f}\n"
        f"sentinel failover-timeout {name} 10000\n",
        mode=0o640,
        owner="redis",
    )


def postgres(host: Host, max_connections: int = 100) -> None:
    """PostgreSQL on port 5432, with the role mastodon and its database, and the role fleetd with pg_monitor.

    It is a new cluster, with nothing from this machine's databases. It favours speed over durability: data survive a
    kill of the server, but not the loss of the machine's memory, which is where the host's disk is anyway.
    """
    _place_cluster(host, max_connections)


def as_the_guide_says(host: Host) -> None:
    """Debian's own pg_hba.conf, by which the user mastodon logs in without a password, and no role but mastodon."""
    path = f"/etc/postgresql/{postgres_version()}/main/pg_hba.conf"
    host.write(path, "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n", mode=0o640, owner="postgres")
    # Without its role nobody of that name can log in; the cluster's copy has one for the other hosts.
    host.write(
        "/etc/systemd/system/postgresql@.service.d/60-guide.conf",
        "[Service]\nExecStartPost=+/usr/sbin/runuser -u postgres -- psql -qc 'DROP ROLE IF EXISTS fleetd'\n",
    )


def replica(host: Host, primary: str, max_connections: int = 100) -> None:
    """A streaming replica of the PostgreSQL on the host `primary`, on port 5432, with the same roles.

    It begins with the same copy of the cluster as the primary, so neither may have run before. PostgreSQL requires
    a standby's max_connections to be at least its primary's, and at least the 100 that the cluster was made with.
    """
    data = _place_cluster(
        host,
        max_connections,
        f"primary_conninfo = 'host={primary} user=replication password={REPLICATION_PASSWORD}'\n"
        "wal_retrieve_retry_interval = 500ms\n",
    )
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", *disk.account(host.disk, "postgres"))


def _place_cluster(host: Host, max_connections: int, more: str = "") -> Path:
    """Place a new cluster and its settings. Returns where its data is, as seen from this machine."""
    version = postgres_version()
    data = host.disk / f"var/lib/postgresql/{version}/main"
    shutil.rmtree(host.disk / "var/lib/postgresql", ignore_errors=True)
    data.parent.mkdir(parents=True)
    uid, gid = disk.account(host.disk, "postgres")
    subprocess.run(["cp", "-a", str(postgres_cluster(version)), str(data)], check=True)
    for folder in (data.parent.parent, data.parent):
        shutil.chown(folder, uid, gid)
    settings = f"""data_directory = '/var/lib/postgresql/{version}/main'
hba_file = '/etc/postgresql/{version}/main/pg_hba.conf'
ident_file = '/etc/postgresql/{version}/main/pg_ident.conf'
external_pid_file = '/run/postgresql/{version}-main.pid'
unix_socket_directories = '/run/postgresql'
listen_addresses = '*'
port = 5432
max_connections = {max_connections}
shared_buffers = 32MB
fsync = off
synchronous_commit = off
full_page_writes = off
jit = off
wal_keep_size = 64MB
log_timezone = UTC
timezone = UTC
{more}"""
    files = {"postgresql.conf": settings, "pg_hba.conf": _HBA, "pg_ident.conf": "", "start.conf": "auto\n"}
    files |= {"environment": "NOTIFY_SOCKET = '/run/systemd/notify'\n", "pg_ctl.conf": "pg_ctl_options = ''\n"}
    for name, text in files.items():
        host.write(f"/etc/postgresql/{version}/main/{name}", text, mode=0o640, owner="postgres")
    host.write("/etc/systemd/system/postgresql@.service.d/50-lab.conf", _STARTED)
    for etc in (f"etc/postgresql/{version}", f"etc/postgresql/{version}/main"):
        shutil.chown(host.disk / etc, uid, gid)
    return data


def pgbouncer(
    host: Host,
    *,
    database_host: str = "127.0.0.1",
    pool_size: int = 20,
    max_client_conn: int = 100,
    ignore_startup_parameters: str = "extra_float_digits",
    stats_users: str = "fleetd_stats",
    databases: Mapping[str, str] | None = None,
    port: int = 6432,
    pool_mode: str = "transaction",
) -> None:
    """PgBouncer in front of a Postgres. `stats_users` may read its console.

    `databases`: further databases, name to the rest of the line, such as `{"shop": "pool_size=2 user=mastodon"}`.
    """
    behind = f"host={database_host} port=5432"
    listed = {DATABASE: f"dbname={DATABASE} pool_size={pool_size}", **(databases or {})}
    lines = "".join(f"{name} = {behind} {more}\n" for name, more in listed.items())
    host.write(
        "/etc/pgbouncer/pgbouncer.ini",
        f"""[databases]
{lines}[pgbouncer]
listen_addr = *
listen_port = {port}
unix_socket_dir = /run/postgresql
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
stats_users = {stats_users}
pool_mode = {pool_mode}
max_client_conn = {max_client_conn}
ignore_startup_parameters = {ignore_startup_parameters}
""",
        mode=0o640,
        owner="postgres",
    )
    users = {"mastodon": DB_PASSWORD, "fleetd": MONITOR_PASSWORD, "fleetd_stats": STATS_PASSWORD}
    userlist = "".join(f'"{name}" "{password}"\n' for name, password in users.items())
    host.write("/etc/pgbouncer/userlist.txt", userlist, mode=0o640, owner="postgres")


def postgres_unit() -> str:
    """The unit of the PostgreSQL server itself; `postgresql.service` only starts and stops it."""
    return f"postgresql@{postgres_version()}-main.service"


def postgres_version() -> str:
    """The newest PostgreSQL installed, such as "15"."""
    found = [int(path.name) for path in Path("/usr/lib/postgresql").glob("[0-9]*") if (path / "bin/initdb").exists()]
    if not found:
        raise LabError("PostgreSQL is not installed. `python -m lab packages` installs what the lab needs.")
    return str(max(found))


def postgres_cluster(version: str) -> Path:
    """A new cluster with the lab's roles and database, made once and copied to the hosts."""
    recipe = cache.digest(version, _ROLES, _TABLES)
    return cache.once(f"postgres-{version}-{recipe}", lambda folder: _make_cluster(folder, version))


def _make_cluster(folder: Path, version: str) -> None:
    programs = Path(f"/usr/lib/postgresql/{version}/bin")
    shutil.chown(folder, "postgres", "postgres")
    folder.chmod(0o700)
    initdb = ["initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=peer"]
    _as_postgres([str(programs / initdb[0]), *initdb[1:], "--auth-host=scram-sha-256", "-D", str(folder)])
    for database, statements in (("postgres", _ROLES), (DATABASE, _TABLES)):
        # Single-user mode needs no server and no socket. -j: a statement ends with a semicolon and an empty line.
        single = [str(programs / "postgres"), "--single", "-j", "-D", str(folder), "-c", "exit_on_error=true"]
        _as_postgres([*single, database], statements.replace(";\n", ";\n\n"))


def _as_postgres(command: list[str], stdin: str = "") -> None:
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--reset-env"]
    done = subprocess.run(
        [*prefix, *command], input=stdin, capture_output=True, text=True, cwd="/", check=False, timeout=120
    )
    if done.returncode != 0:
        raise LabError(f"The lab's database could not be made: {(done.stderr or done.stdout).strip()[-2000:]}")
