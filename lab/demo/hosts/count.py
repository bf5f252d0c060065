"""The count at the end of the story of three hosts: from job records, observers, Redis, systemd and Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.demo import count
from lab.demo.hosts.judge import FleetFigures
from lab.demo.hosts.story import HOSTS
from lab.demo.hosts.tell import FleetWatched, PowerCut
from lab.demo.samples import Sample, known
from lab.faults import redis
from lab.hosts.host import Host
from lab.jobs import records
from lab.jobs.power import in_hand
from lab.observers.claims import claims_at_once, others_at_once
from lab.observers.timeline import Timeline
from lab.topologies import ManyHosts


def figures(hosts: ManyHosts, seen: Timeline, watched: FleetWatched) -> FleetFigures:
    """Count everything. `seen`: all looks of the observers. LabError: job records or Redis can't be read."""
    lab, cut = hosts.lab, watched.cut
    primary = redis.primary(hosts)
    every: list[Host] = list(lab.hosts.values())
    tally = count.settled(primary)
    lost = in_hand(tally.lost, records.runs(every), records.enqueued(lab), cut.host, cut.at)
    taken_over_by, seconds = takeover(seen, cut)
    return FleetFigures(
        cut_host=cut.host,
        tally=tally,
        in_hand=lost,
        redis_failed_jobs=count.sidekiqs_count(primary)[1],
        two_schedulers=tuple(span.hosts for span in seen.together(frozen=True)),
        looks=len(seen.looks),
        longest_gap_seconds=seen.longest_gap,
        taken_over_by=taken_over_by,
        takeover_seconds=seconds,
        scheduler_starts=len(seen.scheduler_starts()),
        cron_doubles=count.cron_doubles(hosts.workers),
        at_cut=cut.instances,
        most_after=most(watched.samples, cut, HOSTS),
        at_end={host.name: len(seen.alive().get(host.name, ())) for host in hosts.workers},
        fleet=watched.fleet,
        connections_limit=count.connections_limit(hosts.main),
        most_open=max(known([sample.connections for sample in watched.samples]), default=None),
        most_claimed=claims_at_once(seen, lab),
        most_others=others_at_once(seen),
        refusals=count.refusals(hosts.main),
        unit_said=watched.unit_said,
        restarts=count.restarts(hosts.workers),
        failed_units=count.failed_units(every),
        overdue_phases=watched.overdue_phases,
    )


def takeover(seen: Timeline, cut: PowerCut) -> tuple[str, float | None]:
    """The first scheduler that began to live after the cut: where, and how many seconds after it; "", None: none."""
    for start in seen.scheduler_starts():
        if start.seen > cut.moment[1]:
            return start.process.host, start.seen - cut.moment[0]
    return "", None


def most(samples: Sequence[Sample], cut: PowerCut, hosts: Sequence[str]) -> Mapping[str, int]:
    """The most instances at once on each other host, from the power cut until the host was back."""
    found = {host: 0 for host in hosts if host != cut.host}
    for sample in samples:
        if sample.instances_by_host is not None and cut.host not in sample.instances_by_host:
            for host in found:
                found[host] = max(found[host], sample.instances_by_host.get(host, 0))
    return found
