"""Failovers of the Redis of many hosts: by command, by the death or isolation of the primary; and a flush."""

import time
from dataclasses import dataclass, replace

from lab.errors import LabError
from lab.hosts.host import Host
from lab.jobs import load
from lab.jobs.records import Window
from lab.jobs.resp import Connection, RedisError, Value, strings
from lab.setup.services import SENTINEL_MASTER, SENTINEL_PORT
from lab.topologies import ManyHosts
from lab.waiting import PATIENCE_SECONDS, wait_until

_ANSWER_SECONDS = 3.0
_REPLICATION_SECONDS = 1.0


@dataclass(frozen=True)
class Failover:
    """A completed failover."""

    old: Host
    new: Host
    window: Window
    """The Unix times in which writes may have been confirmed and lost, or taken twice: see `records.tally`."""
    promoted_at: float
    """The Unix time from which most Sentinels named the new one."""


def primary(hosts: ManyHosts) -> Host:
    """The host whose Redis most Sentinels name as the primary. LabError: there is none."""
    by_address = {host.address: host for host in hosts.redis}
    named = [_named(host) for host in hosts.sentinels]
    for address, host in by_address.items():
        if 2 * named.count(address) > len(hosts.sentinels):
            return host
    raise LabError(f"Most Sentinels name no primary; they name: {named}")


def wait_ready(hosts: ManyHosts, timeout: float = PATIENCE_SECONDS) -> None:
    """Wait until every running Sentinel knows the others and a replica in good order, so that a failover can begin."""
    running = [host for host in hosts.sentinels if host.running]
    wait_until("each Sentinel knows the others and a replica", lambda: all(map(_is_ready, running)), timeout)


def fail_over(hosts: ManyHosts, timeout: float = PATIENCE_SECONDS) -> Failover:
    """Make the replica the primary by SENTINEL FAILOVER, and wait until the old primary has become a replica.

    Until the old one is told, some seconds later, both take writes: what the old one takes is lost.
    """
    old = primary(hosts)
    begun = time.time()
    _ask(next(host for host in hosts.sentinels if _named(host)), "SENTINEL", "failover", SENTINEL_MASTER)
    new, promoted_at = _wait_promoted(hosts, old, timeout)
    wait_until(f"{old.name} is a replica", lambda: role(old) == "slave", timeout)
    return Failover(old, new, (begun - _REPLICATION_SECONDS, time.time()), promoted_at)


def kill_primary(hosts: ManyHosts, timeout: float = PATIENCE_SECONDS) -> Failover:
    """Pull the plug of the primary's host, and wait until the replica has become the primary. `boot` it again later."""
    old = primary(hosts)
    begun = time.time()
    old.power_off()
    new, promoted_at = _wait_promoted(hosts, old, timeout)
    return Failover(old, new, (begun - _REPLICATION_SECONDS, time.time()), promoted_at)


def isolate_primary(hosts: ManyHosts, *others: Host, timeout: float = PATIENCE_SECONDS) -> Failover:
    """Part the primary and these hosts from the rest, and wait until the rest has a new primary.

    Both primaries take writes, so the window ends only with `rejoin`.
    """
    old = primary(hosts)
    begun = time.time()
    hosts.lab.part([old, *others])
    new, promoted_at = _wait_promoted(hosts, old, timeout)
    return Failover(old, new, (begun - _REPLICATION_SECONDS, float("inf")), promoted_at)


def rejoin(hosts: ManyHosts, isolated: Failover, timeout: float = PATIENCE_SECONDS) -> Failover:
    """Undo `isolate_primary`, and wait until the old primary is a replica: what it took meanwhile is lost."""
    hosts.lab.reunite()
    wait_until(f"{isolated.old.name} is a replica", lambda: role(isolated.old) == "slave", timeout)
    return replace(isolated, window=(isolated.window[0], time.time()))


def flush(hosts: ManyHosts) -> Window:
    """Remove everything from Redis: FLUSHALL. Jobs that were waiting are lost with it."""
    begun = time.time()
    with load.connect(primary(hosts)) as connection:
        connection.command("FLUSHALL")
    return begun - _REPLICATION_SECONDS, time.time()


def role(host: Host) -> str:
    """What a Redis says of itself: master or slave. "": it does not answer."""
    try:
        with host.lab.network(), Connection(host.address, timeout=_ANSWER_SECONDS) as connection:
            return (strings(connection.command("ROLE")) or [""])[0]
    except (OSError, RedisError):
        return ""


def _wait_promoted(hosts: ManyHosts, old: Host, timeout: float) -> tuple[Host, float]:
    [new] = [host for host in hosts.redis if host is not old]

    def promoted() -> bool:
        named = [_named(host) for host in hosts.sentinels]
        return 2 * named.count(new.address) > len(hosts.sentinels) and role(new) == "master"

    wait_until(f"most Sentinels name {new.name}", promoted, timeout)
    return new, time.time()


def _named(host: Host) -> str:
    """The address that the Sentinel of a host names as the primary. "": it does not answer."""
    found = _ask(host, "SENTINEL", "get-master-addr-by-name", SENTINEL_MASTER)
    return (strings(found) or [""])[0]


def _is_ready(host: Host) -> bool:
    told = strings(_ask(host, "SENTINEL", "master", SENTINEL_MASTER))
    fields = dict(zip(told[::2], told[1::2], strict=True))
    if (fields.get("flags"), fields.get("num-other-sentinels")) != ("master", "2"):
        return False
    replicas = _ask(host, "SENTINEL", "replicas", SENTINEL_MASTER)
    for replica in replicas if isinstance(replicas, list) else []:
        known = strings(replica)
        state = dict(zip(known[::2], known[1::2], strict=True))
        if (state["flags"], state["master-link-status"]) == ("slave", "ok"):
            return True
    return False


def _ask(host: Host, *words: str) -> Value:
    """What the Sentinel of a host answers. None: it does not."""
    if not host.running:
        return None
    try:
        with host.lab.network(), Connection(host.address, SENTINEL_PORT, timeout=_ANSWER_SECONDS) as sentinel:
            return sentinel.command(*words)
    except (OSError, RedisError):
        return None
