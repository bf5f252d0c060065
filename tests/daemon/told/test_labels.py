"""Names from outside never add series, memory or samples without bound, however they churn."""

from __future__ import annotations

from msgspec.structs import replace

from fleetd.core.evidence.weigh import EvidenceMemory, weigh
from fleetd.core.model.status import ClaimStatus, Status
from fleetd.core.plan import FleetMemory, plan
from fleetd.daemon.labels import HOSTS_MAX, KEPT_SECONDS, QUEUES_MAX
from fleetd.daemon.metrics import Metrics
from fleetd.daemon.record import QUEUES_MAX as RECORDED_QUEUES_MAX
from fleetd.daemon.record import sample_of
from tests.support.builders.readings import database, fleet, process, queue, sidekiq, snapshot, tag, tick_of
from tests.support.builders.status_minimal import queue as queue_status
from tests.support.builders.status_minimal import status
from tests.support.world.ports import policy
from tests.support.world.recorded import Recorded, busy_world

NAMES = 10_000


class Scraped:
    """A Prometheus that scrapes after every tick, and never forgets a series."""

    def __init__(self) -> None:
        self.now = 0.0
        self.metrics = Metrics(version="1", now_seconds=lambda: self.now)
        self.seen: dict[str, set[str]] = {"queue": set(), "host": set()}

    def tick(self, told: Status, seconds: float = 5.0) -> dict[str, set[str]]:
        """The label values of this scrape."""
        self.now += seconds
        self.metrics.tell(replace(told, ticks_total=int(self.now)))
        scraped: dict[str, set[str]] = {"queue": set(), "host": set()}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                for label, values in scraped.items():
                    if label in sample.labels:
                        values.add(sample.labels[label])
        for label, values in scraped.items():
            self.seen[label] |= values
        return scraped

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def told(*names: str, hosts: tuple[str, ...] = ()) -> Status:
    base = status(queues=tuple(map(queue_status, ("default", *names))))
    claims = tuple(ClaimStatus(host=host, profile="", instances=1, connections=7) for host in (base.host, *hosts))
    return replace(base, connections=replace(base.connections, claims=claims))


def test_ten_thousand_queue_names_over_time_make_a_bounded_number_of_series() -> None:
    scraped = Scraped()
    for n in range(0, NAMES, 10):
        shown = scraped.tick(told("scheduler", *(f"q{n + i}" for i in range(10))))["queue"]
        assert {"default", "scheduler"} <= shown
    assert len(scraped.seen["queue"]) == QUEUES_MAX + 2
    assert scraped.value("fleetd_queues_left_out") == 10.0


def test_a_place_is_free_again_when_its_name_was_not_seen_for_a_day() -> None:
    scraped = Scraped()
    scraped.tick(told(*(f"q{n}" for n in range(QUEUES_MAX))))
    assert "new" not in scraped.tick(told("new"))["queue"]
    assert "new" in scraped.tick(told("new"), KEPT_SECONDS + 1.0)["queue"]
    assert "q3" in scraped.tick(told("q3", "new"))["queue"], "it kept its place"


def test_ten_thousand_host_names_over_time_keep_the_sum_right() -> None:
    scraped = Scraped()
    own = told().host
    for n in range(0, NAMES, 10):
        hosts = scraped.tick(told(hosts=tuple(f"h{n + i}" for i in range(10))))["host"]
        assert own in hosts
    assert len(scraped.seen["host"]) == HOSTS_MAX + 2
    assert scraped.value("fleetd_claim_connections", host="more", profile="unknown") == 70.0
    assert scraped.value("fleetd_claim_connections", host=own, profile="unknown") == 7.0


def test_counters_have_no_labels_from_outside() -> None:
    scraped = Scraped()
    counted = []
    for n in range(0, 2000, 10):
        scraped.tick(told(*(f"q{n + i}" for i in range(10)), hosts=(f"h{n}",)))
        families = [f for f in scraped.metrics.registry.collect() if f.type in ("counter", "histogram")]
        counted.append(sum(len(family.samples) for family in families))
    assert len(set(counted)) == 1


def test_the_memories_of_plan_and_evidence_are_as_small_as_a_reading() -> None:
    rules = policy()
    units, own = fleet(1)
    memory, evidence = FleetMemory(), EvidenceMemory()
    for n in range(0, NAMES, 10):
        names = [f"q{n + i}" for i in range(10)]
        beats = tuple(process(tag(i + 1, host=f"h{n + i}"), queues=names[i], busy=2, pid=n + i) for i in range(10))
        read = sidekiq(
            queue("default", 3, age=1.0), *(queue(q, 5, age=2.0) for q in names), processes=(*own, *beats), total=n
        )
        shot = snapshot(rules, now=10_000.0 + n, redis=read, postgres=database(), units=units)
        weighed = weigh(rules, shot, evidence)
        evidence = weighed.memory
        memory = plan(tick_of(rules, weighed.snapshot), memory).memory
    demand = memory.demand
    served = {name for name, _ in rules.profiles[0].queues}
    assert set(demand.busy_mean_threads) | set(demand.steady_mean_threads) | set(demand.waiting_jobs) <= served
    assert set(demand.service.seconds) | set(demand.service.busy_thread_seconds) <= {*served, ""}
    assert set(memory.windows) == {"default-first"}
    assert len(memory.unserved.waited_seconds) <= 10
    assert len(memory.budget.processes.tagged_connections) <= 11
    assert len(evidence.queues) == 11
    assert len(evidence.liveness.beats) == 11


def test_a_sample_always_has_the_queues_of_the_profiles() -> None:
    rig = Recorded(busy_world())
    rig.live(60.0)
    result = rig.tick()
    facts = result.tick.sidekiq
    assert facts is not None
    odd = {f"a{n}": queue(f"a{n}", 1) for n in range(500)}
    reading = replace(result.tick.snapshot.sidekiq, value=replace(facts, queues={**odd, **facts.queues}))
    tick = replace(result.tick, snapshot=replace(result.tick.snapshot, sidekiq=reading))
    queues = sample_of(replace(result, tick=tick), 1.0).queues
    assert queues is not None
    assert len(queues) == RECORDED_QUEUES_MAX
    assert set(facts.queues) <= set(queues)
