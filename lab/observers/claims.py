"""How many connections to the database all workers could have opened at once, by what observers saw: law 2."""

from lab.hosts.host import Host
from lab.lab import Lab
from lab.observers.timeline import Timeline


def claims_at_once(seen: Timeline, lab: Lab) -> int:
    """The most that all live workers could have had open at once: the sum of their pools (DB_POOL)."""
    units = {(one.host, one.unit) for look in seen.looks for one in look.alive}
    pools = {(host, unit): _pool(lab.hosts[host], unit) for host, unit in units}
    return max((sum(pools[one.host, one.unit] for one in look.alive) for look in seen.looks), default=0)


def others_at_once(seen: Timeline) -> int:
    """The most connections that anybody but the workers had open at once in Mastodon's database."""
    return max((counted.of("") - counted.of("mastodon-sidekiq") for counted in seen.counts), default=0)


def _pool(host: Host, unit: str) -> int:
    name = "scheduler" if "@" not in unit else unit.partition("@")[2].removesuffix(".service")
    lines = (host.disk / f"var/lib/mastodon-sidekiq/{name}.env").read_text().splitlines()
    return next(int(line.split("=")[1].strip('"')) for line in lines if line.startswith("DB_POOL="))
