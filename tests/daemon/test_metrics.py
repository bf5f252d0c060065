"""What a scrape shows of a Status, parsed by Prometheus's own parser and checked by promtool."""

from __future__ import annotations

import shutil
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import EndCause, HostPressure
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.units import ReplaceCause
from fleetd.core.model.status import (
    ClampStatus,
    ConnectionStatus,
    DeathCount,
    HoldStatus,
    JobsStatus,
    OverrideStatus,
    RolloutStatus,
    SchedulerStatus,
    Status,
    StepStatus,
    WouldStatus,
)
from fleetd.daemon.labels import QUEUES_MAX
from fleetd.daemon.metrics import ROWS_MAX, Metrics
from tests.support.builders.status_minimal import instance, profile, queue, status

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Clock:
    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


def metrics_of(*statuses: Status, clock: Clock | None = None) -> Metrics:
    metrics = Metrics(version="1.2.3", now_seconds=clock or Clock())
    for one in statuses:
        metrics.tell(one)
    return metrics


def samples(metrics: Metrics) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_values_of_a_tick() -> None:
    got = samples(metrics_of(status()))
    expected = {
        ("fleetd_build_info", (("version", "1.2.3"),)): 1,
        ("fleetd_queue_latency_seconds", (("queue", "default"),)): 1.5,
        ("fleetd_queue_target_seconds", (("queue", "default"),)): 5,
        ("fleetd_queue_length_jobs", (("queue", "default"),)): 7,
        ("fleetd_queue_busy_threads", (("queue", "default"),)): 3,
        ("fleetd_queue_need_threads", (("queue", "default"),)): 4.5,
        ("fleetd_instances", (("profile", "default-first"), ("state", "serving"))): 1,
        ("fleetd_instances", (("profile", "default-first"), ("state", "starting"))): 1,
        ("fleetd_instances", (("profile", "default-first"), ("state", "failed"))): 0,
        ("fleetd_instances_admitted", (("profile", "default-first"),)): 2,
        ("fleetd_instances_needed", (("profile", "default-first"),)): 5,
        ("fleetd_instances_min", (("profile", "default-first"),)): 1,
        ("fleetd_instances_max", (("profile", "default-first"),)): 6,
        ("fleetd_instance_resident_bytes", (("instance", "1"), ("profile", "default-first"))): 3e8,
        ("fleetd_connections_limit", ()): 97,
        ("fleetd_connections_reserve", ()): 10,
        ("fleetd_connections_others", ()): 20,
        ("fleetd_connections_claims", ()): 62,
        ("fleetd_connections_headroom", ()): 5,
        ("fleetd_connections_open", ()): 31,
        ("fleetd_scheduler_processes", ()): 1,
        ("fleetd_memory_available_bytes", ()): 1000,
        ("fleetd_memory_total_bytes", ()): 4000,
        ("fleetd_source_up", (("source", "redis"),)): 1,
        ("fleetd_source_up", (("source", "postgres"),)): 0,
        ("fleetd_source_errors_total", (("source", "postgres"),)): 4,
        ("fleetd_ticks_total", ()): 1,
        ("fleetd_problems", ()): 0,
        ("fleetd_warnings", ()): 0,
    }
    assert {key: got.get(key) for key in expected} == expected


def test_jobs_as_sidekiq_counts_them() -> None:
    jobs = JobsStatus(processed_jobs_total=500, failed_jobs_total=7, retry_jobs=3, dead_jobs=0, scheduled_jobs=1)
    counted = {"processed_jobs_total": 500, "failed_jobs_total": 7, "retry_jobs": 3, "dead_jobs": 0}
    for metrics, got in ((metrics_of(status(jobs=jobs)), counted), (metrics_of(status()), dict.fromkeys(counted))):
        assert {name: value(metrics, f"fleetd_{name}") for name in counted} == got


def test_what_is_unknown_is_absent_and_never_zero() -> None:
    got = samples(
        metrics_of(
            status(
                queues=(queue(latency_seconds=None, length_jobs=None),),
                profiles=(profile(wanted=None),),
                connections=ConnectionStatus(
                    limit_connections=None,
                    reserve_connections=10,
                    others_connections=None,
                    claims_connections=0,
                    headroom_connections=None,
                    open_connections=None,
                ),
                scheduler=SchedulerStatus(processes=None, where=(), sentence=""),
                memory_available_bytes=None,
                memory_total_bytes=None,
            )
        )
    )
    names = {name for name, _ in got}
    assert not names & {
        "fleetd_queue_latency_seconds",
        "fleetd_queue_length_jobs",
        "fleetd_instances_admitted",
        "fleetd_connections_limit",
        "fleetd_connections_others",
        "fleetd_connections_headroom",
        "fleetd_connections_open",
        "fleetd_scheduler_processes",
        "fleetd_memory_available_bytes",
        "fleetd_memory_total_bytes",
    }
    assert got["fleetd_connections_claims", ()] == 0, "known to be nothing"
    assert ("fleetd_source_age_seconds", (("source", "postgres"),)) not in got


def test_a_queue_that_may_wait_for_ever_has_no_target() -> None:
    got = metrics_of(status(queues=(replace(queue(), target_seconds=None),)))
    assert value(got, "fleetd_queue_target_seconds", queue="default") is None
    assert value(got, "fleetd_queue_latency_seconds", queue="default") == 1.5


def test_known_zero_is_shown() -> None:
    metrics = metrics_of(status(queues=(queue(latency_seconds=0.0, length_jobs=0),)))
    assert value(metrics, "fleetd_queue_latency_seconds", queue="default") == 0


def test_series_of_things_that_are_gone_disappear() -> None:
    metrics = metrics_of(status(1, queues=(queue("default"), queue("fasp"))), status(2, profiles=(), instances=()))
    assert value(metrics, "fleetd_queue_latency_seconds", queue="fasp") is None
    assert value(metrics, "fleetd_queue_latency_seconds", queue="default") == 1.5
    assert not [name for name, _ in samples(metrics) if name.startswith("fleetd_instance")]


def test_clamps_are_shown_by_reason_and_counted() -> None:
    clamp = ClampStatus(code=ClampCode.CONNECTIONS, sentence="headroom 5", profile="default-first")
    other = ClampStatus(code=ClampCode.CONNECTIONS, sentence="headroom 5", profile="push-first")
    metrics = metrics_of(status(1, clamps=(clamp, other)), status(2, clamps=(clamp,)), status(3))
    assert value(metrics, "fleetd_clamps_active", reason="connections") == 0
    assert value(metrics, "fleetd_clamps_total", reason="connections") == 3
    assert value(metrics_of(status(1, clamps=(clamp, other))), "fleetd_clamps_active", reason="connections") == 2
    assert {labels[0][1] for name, labels in samples(metrics) if name == "fleetd_clamps_active"} == set(ClampCode)


def test_steps_are_counted_once_a_tick() -> None:
    done = StepStatus(verb="start", unit="mastodon-sidekiq@3.service", result="done", why="")
    refused = StepStatus(verb="stop", unit="mastodon-sidekiq@2.service", result="refused", why="")
    first = status(1, step_results=(done, done, refused))
    metrics = metrics_of(first, first, status(2, step_results=(done,)))
    assert value(metrics, "fleetd_steps_total", verb="start", result="done") == 3
    assert value(metrics, "fleetd_steps_total", verb="stop", result="refused") == 1
    assert value(metrics, "fleetd_steps_total", verb="quiet", result="timeout") == 0


def test_tick_duration_histogram() -> None:
    metrics = metrics_of(*(status(n, tick_duration_seconds=d) for n, d in enumerate((0.001, 0.05, 0.3, 60.0), 1)))
    assert value(metrics, "fleetd_tick_duration_seconds_bucket", le="0.01") == 1
    assert value(metrics, "fleetd_tick_duration_seconds_bucket", le="0.05") == 2
    assert value(metrics, "fleetd_tick_duration_seconds_bucket", le="10.0") == 3
    assert value(metrics, "fleetd_tick_duration_seconds_bucket", le="+Inf") == 4
    assert value(metrics, "fleetd_tick_duration_seconds_count") == 4
    assert value(metrics, "fleetd_tick_duration_seconds_sum") == pytest.approx(60.351)


def test_ages_grow_when_no_tick_comes() -> None:
    clock = Clock()
    metrics = metrics_of(status(), clock=clock)
    clock.seconds += 90
    assert value(metrics, "fleetd_tick_age_seconds") == 90
    assert value(metrics, "fleetd_source_age_seconds", source="redis") == pytest.approx(90.1)
    assert value(metrics, "fleetd_uptime_seconds") == 190


def test_label_sets_are_bounded() -> None:
    queues = tuple(queue(f"q{n}") for n in range(5000))
    instances = tuple(instance(n, profile=f"p{n}") for n in range(5000))
    got = samples(metrics_of(status(queues=queues, instances=instances)))
    assert sum(name == "fleetd_queue_latency_seconds" for name, _ in got) == QUEUES_MAX
    assert sum(name == "fleetd_instances" for name, _ in got) == ROWS_MAX * len(InstanceState)
    assert len(got) < 10_000


def test_every_state_is_counted_and_no_other() -> None:
    every = tuple(instance(n, state) for n, state in enumerate(InstanceState))
    got = samples(metrics_of(status(instances=(*every, instance(99, "hovering")))))
    counts = {dict(labels)["state"]: n for (name, labels), n in got.items() if name == "fleetd_instances"}
    assert counts == dict.fromkeys(map(str, InstanceState), 1)


def test_instances_are_unknown_while_systemd_is_unknown() -> None:
    blind = replace(profile(), running_instances=None)
    names = {name for name, _ in samples(metrics_of(status(instances=(), profiles=(blind,))))}
    assert "fleetd_instances" not in names
    assert "fleetd_instances_min" in names


def test_holds_are_a_closed_set() -> None:
    pause = HoldStatus(kind="pause", sentence="disk swap", seconds_left=60.0)
    metrics = metrics_of(status(holds=(pause,)))
    assert value(metrics, "fleetd_paused") == 1
    held = {kind: value(metrics, "fleetd_hold", kind=kind) for kind in ("pause", "upgrade", "quieted")}
    assert held == {"pause": 1, "upgrade": 0, "quieted": 0}
    upgrade = metrics_of(status(holds=(HoldStatus(kind="upgrade", sentence=""),)))
    assert value(upgrade, "fleetd_paused") == 0
    assert value(upgrade, "fleetd_hold", kind="upgrade") == 1


def test_peoples_orders_count_down_and_disappear() -> None:
    clock = Clock()
    pin = OverrideStatus(kind="pin", what="@3", sentence="stopped by hand", seconds_left=100.0)
    metrics = metrics_of(status(1, overrides=(pin,)), clock=clock)
    assert value(metrics, "fleetd_override_left_seconds", kind="pin", what="@3") == 100
    clock.seconds += 130
    assert value(metrics, "fleetd_override_left_seconds", kind="pin", what="@3") == 0
    metrics.tell(status(2))
    assert not [name for name, _ in samples(metrics) if name.startswith("fleetd_override")]


def test_orders_are_bounded() -> None:
    pins = tuple(OverrideStatus(kind="pin", what=f"@{n}", sentence="", seconds_left=1.0) for n in range(5000))
    got = samples(metrics_of(status(overrides=pins)))
    assert sum(name == "fleetd_override_left_seconds" for name, _ in got) == ROWS_MAX


def test_a_rollout_shows_its_progress() -> None:
    roll = RolloutStatus(cause=ReplaceCause.RESTART, total_instances=8, done_instances=3, current="@4", sentence="")
    metrics = metrics_of(status(rollout=roll))
    assert value(metrics, "fleetd_rollout_instances", state="total") == 8
    assert value(metrics, "fleetd_rollout_instances", state="done") == 3
    assert value(metrics_of(status()), "fleetd_rollout_instances", state="total") is None


def test_deaths_are_counted_by_profile_and_cause() -> None:
    deaths = (
        DeathCount(profile="default-first", cause=EndCause.SIGNAL, deaths=3),
        DeathCount(profile="scheduler", cause=EndCause.OOM, deaths=0),
    )
    metrics = metrics_of(status(deaths=deaths))
    assert value(metrics, "fleetd_instance_deaths_total", profile="default-first", cause="signal") == 3
    assert value(metrics, "fleetd_instance_deaths_total", profile="scheduler", cause="oom") == 0


def test_host_pressure_is_shown_if_the_kernel_reports_it() -> None:
    pressure = HostPressure(memory_stalled_share=0.0, cpu_waiting_share=0.66)
    metrics = metrics_of(status(pressure=pressure))
    assert value(metrics, "fleetd_host_memory_stalled_ratio") == 0
    assert value(metrics, "fleetd_host_cpu_waiting_ratio") == 0.66
    assert value(metrics_of(status()), "fleetd_host_cpu_waiting_ratio") is None


def test_before_the_first_tick_only_what_is_known_is_shown() -> None:
    names = {name for name, _ in samples(Metrics(version="1", now_seconds=Clock()))}
    assert "fleetd_build_info" in names
    assert "fleetd_steps_total" in names
    assert "fleetd_queue_latency_seconds" not in names
    assert "fleetd_ticks_total" not in names


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.text(st.characters(), max_size=300), max_size=6))
def test_any_queue_name_gives_a_readable_scrape(names: list[str]) -> None:
    """Including names with line breaks, quotes or lone surrogates, and names with the same first 128 characters."""
    metrics = metrics_of(status(queues=tuple(queue(name) for name in [*names, "x" * 200, "x" * 201, "\udcff"])))
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    latencies = next(f for f in families if f.name == "fleetd_queue_latency_seconds").samples
    labels = [s.labels["queue"] for s in latencies]
    assert len(labels) == len(set(labels))


def test_no_label_holds_what_can_not_be_seen() -> None:
    names = ["a\x1b[2J", r"a\x1b[2J", "txt.\u202eexe", "\x9b\u2066\u200b\u2028"]
    scraped = generate_latest(metrics_of(status(queues=tuple(map(queue, names)))).registry).decode()
    assert all(line.isprintable() for line in scraped.split("\n"))
    assert scraped.count('fleetd_queue_length_jobs{queue="a\\\\x1b[2J"}') == 1, "two that look alike are one series"
    assert r'queue="txt.\\u202eexe"' in scraped


def test_a_scrape_during_a_tick_is_consistent() -> None:
    metrics = metrics_of(status(1))
    stop = threading.Event()
    failures: list[BaseException] = []

    def scrape() -> None:
        while not stop.is_set():
            try:
                counts = samples(metrics)
                inf = counts["fleetd_tick_duration_seconds_bucket", (("le", "+Inf"),)]
                assert inf == counts["fleetd_tick_duration_seconds_count", ()]
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    for tick in range(2, 2000):
        metrics.tell(status(tick))
    stop.set()
    thread.join(10)
    assert failures == []
    assert value(metrics, "fleetd_tick_duration_seconds_count") == 1999


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_wrong() -> None:
    clamp = ClampStatus(code=ClampCode.MAX, sentence="")
    everything = status(
        clamps=(clamp,),
        holds=(HoldStatus(kind="upgrade", sentence=""),),
        overrides=(OverrideStatus(kind="set", what="default-first", sentence="", seconds_left=1.0),),
        rollout=RolloutStatus(cause=ReplaceCause.MEMORY, total_instances=1, done_instances=0, current="", sentence=""),
        pressure=HostPressure(memory_stalled_share=0.1, cpu_waiting_share=0.2),
    )
    for metrics in (metrics_of(everything), Metrics(version="1", now_seconds=Clock())):
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=generate_latest(metrics.registry),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_what_it_would_do_is_counted_while_it_only_observes() -> None:
    wishes = (
        WouldStatus(verb="start", keys=(InstanceKey(1), InstanceKey(2)), why="", profile="a"),
        WouldStatus(verb="start", keys=(InstanceKey(7),), why="", profile="b"),
    )
    found = samples(metrics_of(status(mode="observe", would=wishes)))
    assert found["fleetd_observes", ()] == 1
    assert found["fleetd_would", (("verb", "start"),)] == 3
    assert found["fleetd_would", (("verb", "stop"),)] == 0
    assert samples(metrics_of(status()))["fleetd_observes", ()] == 0
