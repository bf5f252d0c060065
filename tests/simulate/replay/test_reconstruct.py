"""A known trace runs under fleetd, which records it. The trace rebuilt from the recording must be close to it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fleetd.cli.commands.arguments import PAST_SECONDS_MAX
from fleetd.core.model.history import InstanceSample, PolicyChange, QueueSample, Recording, Sample
from fleetd.simulate.replay.reconstruct import Reconstruction, reconstruct, refuse_too_much, with_policy
from fleetd.simulate.replay.replay import run_as_recorded, run_under, under
from fleetd.simulate.replay.timeline import EARLIER_SECONDS_MAX, RecordingError
from fleetd.simulate.run import policy_of
from fleetd.simulate.scoring.outcome import queue_scores
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.text import trace_text
from fleetd.simulate.trace.trace import Trace, parse_trace, profiles_of, value_at
from fleetd.simulate.world.world import World
from tests.support.builders.recordings import BEGIN, recorded
from tests.support.builders.traces import queue_toml, small_trace

#: Unlike Mastodon's usual times, so that assuming the usual ones would fail.
SERVICE_SECONDS = {"default": 0.1, "push": 0.6, "pull": 0.7}
DAY = (
    "[targets]\ndefault = 5\npush = 30\npull = 300\n"
    + queue_toml("default", "[[0, 20], [1800, 20], [2400, 90], [3600, 90], [3900, 25]]", 0.1)
    + queue_toml("push", "[[0, 3], [4500, 3], [4600, 30], [5400, 30], [5500, 4]]", 0.6, bursts="[[1200, 6000]]")
    + queue_toml("pull", "[[0, 2], [5700, 2], [5800, 20], [6600, 20], [6700, 2]]", 0.7)
)


@pytest.fixture(scope="module")
def day() -> tuple[Trace, Recording, World]:
    trace = small_trace(DAY + "[database]\nmax_connections = 300\nothers = [[0, 50], [3600, 90]]\n", seconds=7200)
    return trace, *recorded(trace)


@pytest.fixture(scope="module")
def found(day: tuple[Trace, Recording, World]) -> Reconstruction:
    return reconstruct(day[1], "again")


def test_the_number_of_jobs_is_rebuilt(day: tuple[Trace, Recording, World], found: Reconstruction) -> None:
    truly = {name: sum(q.arrivals) for name, q in day[2].queues.items()}
    again = {name: sum(arrivals(found.trace, name)) for name in found.trace.queues}
    assert sum(again.values()) == pytest.approx(sum(truly.values()), rel=0.03)
    for name, jobs in truly.items():
        assert again[name] == pytest.approx(jobs, rel=0.2), name
    assert set(again) == set(truly)


def test_service_times_are_rebuilt(found: Reconstruction) -> None:
    for name, traffic in found.trace.queues.items():
        assert traffic.service_seconds.mean == pytest.approx(SERVICE_SECONDS[name], rel=0.2)


def test_the_burst_is_found_to_the_second(found: Reconstruction) -> None:
    at, jobs = max(found.trace.queues["push"].bursts, key=lambda burst: burst[1])
    assert at == pytest.approx(1200, abs=6)
    assert jobs == pytest.approx(6000, rel=0.05)
    assert sum(len(q.bursts) for q in found.trace.queues.values()) <= 6


def test_the_surrounding_world_is_the_same(day: tuple[Trace, Recording, World], found: Reconstruction) -> None:
    trace, again = day[0], found.trace
    assert again.duration_seconds == pytest.approx(trace.duration_seconds, abs=6)
    assert again.database.max_connections == 300
    for at in range(0, 7200, 300):
        assert value_at(again.database.others, at) == pytest.approx(value_at(trace.database.others, at), abs=2)
    low, high = again.boot_seconds
    assert 9 <= low <= high <= 25, "as watched, every 5 s, of 10 to 20"
    assert again.host.memory_bytes == trace.host.memory_bytes
    assert again.faults == ()
    assert found.notes == ()
    assert found.policy.profiles == profiles_of(trace, [])


def test_waits_are_similar_and_the_error_says_so(day: tuple[Trace, Recording, World], found: Reconstruction) -> None:
    outcome, errors = run_as_recorded(found)
    assert errors["push"].trusted, errors["push"]
    assert errors["push"].recorded.late_seconds > 30, "its burst was late"
    truly_done = {name: queue.jobs for name, queue in day[2].queues.items()}
    for name, score in outcome.score.queues.items():
        most = errors[name].jobs_factor ** 2
        assert 1.0 / most <= score.jobs / truly_done[name] <= most, name
    truly = queue_scores(day[2])
    late = sum(score.late_jobs for score in truly.values())
    assert late > 100, "there is something to be compared"
    assert outcome.score.late_jobs == pytest.approx(late, rel=0.35)
    assert outcome.score.instance_seconds == pytest.approx(day[2].machine.instance_seconds, rel=0.05)
    assert outcome.breaks == ()


def test_a_smaller_fleet_is_later_and_cheaper(found: Reconstruction) -> None:
    smaller = structs.replace(
        found.policy, profiles=tuple(structs.replace(p, max_instances=2) for p in found.policy.profiles)
    )
    now, new = run_under(found, found.policy, "now"), run_under(found, smaller, "new")
    assert (now.policy, new.policy) == ("now", "new")
    assert new.score.late_jobs > 1.3 * now.score.late_jobs
    assert new.score.instance_seconds < now.score.instance_seconds


def test_a_configuration_can_describe_its_own_world(found: Reconstruction) -> None:
    from fleetd.core.model.policy_tables import DeclaredClaim

    tight = structs.replace(
        found.policy,
        connections=structs.replace(
            found.policy.connections, limit=120, declared=(DeclaredClaim(name="web", connections=70),)
        ),
        pace=structs.replace(found.policy.pace, tick_seconds=10.0),
    )
    limited = under(found.trace, tight)
    assert limited.database.max_connections == 120
    assert limited.tick_seconds == 10.0
    assert {
        min(count for _, count in limited.database.others),
        max(count for _, count in limited.database.others),
    } == {
        70.0,
        90.0,
    }
    assert run_under(found, tight, "tight").score.connections_max <= 120 - 10 - 70


def test_the_trace_is_the_same_when_read_back_from_its_file(found: Reconstruction) -> None:
    whole = with_policy(found.trace, found.policy)
    assert parse_trace(trace_text(whole, ("a note", *found.notes))) == whole


def test_a_trace_made_of_a_recorded_trace_is_small(found: Reconstruction) -> None:
    assert sum(len(q.arrivals_per_second) for q in found.trace.queues.values()) < 300


OUTAGES = "".join(
    f'[[faults]]\nat = {at}\nfor_seconds = {lasts}\nsource = "{source}"\n'
    for at, lasts, source in ((600, 120, "redis"), (1200, 60, "postgres"), (1500, 90, "systemd"))
)


def test_outages_become_faults() -> None:
    trace = small_trace(queue_toml("default", "[[0, 20]]", 0.2) + OUTAGES, seconds=2400)
    again = reconstruct(recorded(trace)[0], "again").trace
    assert [f.source for f in again.faults] == ["redis", "postgres", "systemd"]
    for fault, meant in zip(again.faults, trace.faults, strict=True):
        assert fault.at == pytest.approx(meant.at, abs=6)
        assert fault.until == pytest.approx(meant.until, abs=6)
    jobs = 20 * (2400 - 120)
    total = sum(sum(arrivals(again, name)) for name in again.queues)
    assert total == pytest.approx(jobs, rel=0.06)


def test_a_failed_reading_while_the_workers_went_on_is_no_fault() -> None:
    trace = small_trace(queue_toml("default", "[[0, 20]]", 0.2), seconds=1200)
    history, _ = recorded(trace)
    samples = tuple(
        structs.replace(s, queues=None, processed_jobs_total=None) if 400 <= i * 5 < 500 else s
        for i, s in enumerate(history.samples)
    )
    again = reconstruct(structs.replace(history, samples=samples), "again")
    assert again.trace.faults == ()
    assert any("redis could not be read for 95 s while the workers went on" in note for note in again.notes)


@pytest.mark.parametrize(("gap_seconds", "says"), [(600, "bridged evenly"), (2400, "cut out")])
def test_a_gap_is_reported_and_short_gaps_keep_their_jobs(gap_seconds: int, says: str) -> None:
    trace = small_trace(queue_toml("default", "[[0, 20]]", 0.2), seconds=4800)
    history, _ = recorded(trace, lambda second: not 1200 <= second < 1200 + gap_seconds)
    again = reconstruct(history, "again")
    assert any(says in note for note in again.notes)
    lasts = 4800 if gap_seconds == 600 else 4800 - gap_seconds
    assert again.trace.duration_seconds == pytest.approx(lasts, abs=15)
    jobs = sum(sum(arrivals(again.trace, name)) for name in again.trace.queues)
    assert jobs == pytest.approx(20 * lasts, rel=0.05)
    assert again.unwatched == ((1195.0, 1195.0 + gap_seconds + 5),) if gap_seconds == 600 else True
    run_as_recorded(again)


def test_queues_that_nobody_serves_and_threads_elsewhere_are_reported() -> None:
    trace = small_trace(queue_toml("default", "[[0, 5]]", 0.2), seconds=300)
    history, _ = recorded(trace)
    strange = tuple(
        structs.replace(
            s,
            foreign_threads=25,
            queues={
                **(s.queues or {}),
                "odd": QueueSample(length_jobs=i, latency_milliseconds=0, busy_threads=0),
            },
        )
        for i, s in enumerate(history.samples)
    )
    again = reconstruct(structs.replace(history, samples=strange), "again")
    assert list(again.trace.queues) == ["default", "pull", "push"]
    assert any("odd" in note for note in again.notes)
    assert any("25 threads of other processes" in note for note in again.notes)


def test_too_short_a_recording_gives_a_sentence() -> None:
    trace = small_trace(queue_toml("default", "[[0, 5]]", 0.2), seconds=300)
    history, _ = recorded(trace)
    for nothing, why in (
        (structs.replace(history, samples=()), "less than a minute"),
        (structs.replace(history, samples=history.samples[:5]), "less than a minute"),
        (structs.replace(history, policies=()), "no configuration"),
        (
            structs.replace(history, samples=tuple(structs.replace(s, queues=None) for s in history.samples)),
            "Redis could not be read",
        ),
        (
            structs.replace(history, samples=tuple(structs.replace(s, queues={}) for s in history.samples)),
            "no queue that a profile serves",
        ),
    ):
        with pytest.raises(RecordingError, match=why):
            reconstruct(nothing, "again")


def test_a_reboot_and_a_clock_that_was_set_do_no_harm() -> None:
    trace = small_trace(queue_toml("default", "[[0, 20]]", 0.2), seconds=1200)
    history, _ = recorded(trace)
    half = len(history.samples) // 2
    rebooted = tuple(
        structs.replace(s, boot="other", now_seconds=s.now_seconds - 1_000_500.0) if i >= half else s
        for i, s in enumerate(history.samples)
    )
    again = reconstruct(structs.replace(history, samples=rebooted), "again").trace
    assert again.duration_seconds == pytest.approx(1195, abs=6)
    leapt = tuple(
        structs.replace(s, at_seconds=s.at_seconds - 86_400.0) if i >= half else s
        for i, s in enumerate(history.samples)
    )
    again = reconstruct(structs.replace(history, samples=leapt), "again").trace
    assert again.duration_seconds == pytest.approx(1195, abs=6), "time is CLOCK_BOOTTIME within a boot"


def test_the_number_of_one_minute_jobs_is_rebuilt() -> None:
    body = queue_toml("default", "[[0, 30], [1800, 60], [3600, 30]]", 0.15) + queue_toml(
        "pull", "[[0, 0.2]]", 60.0, sigma=0.3, bursts="[[1000, 200]]"
    )
    history, truly = recorded(small_trace(body, seconds=3600))
    again = reconstruct(history, "again")
    jobs = {name: sum(arrivals(again.trace, name)) for name in again.trace.queues}
    assert jobs["pull"] == pytest.approx(truly.queues["pull"].jobs, rel=0.2), "a counter alone makes 15 times as many"
    old = tuple(
        structs.replace(s, queues={n: structs.replace(q, young_threads=None) for n, q in (s.queues or {}).items()})
        for s in history.samples
    )
    before = reconstruct(structs.replace(history, samples=old), "recorded before")
    assert before.jobs_sigma["pull"] > again.jobs_sigma["pull"]


def test_profiles_are_known_by_name_when_their_numbers_move() -> None:
    trace = small_trace(queue_toml("default", "[[0, 40]]", 0.2), seconds=1200)
    history, _ = recorded(trace)
    (profile,) = history.policies[-1].policy.profiles
    moved = structs.replace(profile, numbers=tuple(range(21, 27)))
    renamed = structs.replace(profile, name="other", numbers=tuple(range(21, 27)))
    for now, kept in ((moved, True), (renamed, False)):
        policy = structs.replace(history.policies[-1].policy, profiles=(now,))
        late = history.samples[-30:]
        number = now.numbers[0]
        samples = history.samples[:-30] + tuple(
            structs.replace(
                s,
                instances=tuple(
                    structs.replace(i, number=number + k, profile=now.name) for k, i in enumerate(s.instances or ())
                ),
            )
            for s in late
        )
        change = PolicyChange(at_seconds=late[0].at_seconds, policy=policy)
        again = reconstruct(structs.replace(history, samples=samples, policies=(*history.policies, change)), "again")
        assert not again.one_policy
        assert any("profiles that are no more" in note for note in again.notes) is not kept
        assert again.trace.duration_seconds == pytest.approx(1195 if kept else 145, abs=6)
        assert max(count for _, count in again.sizes[now.name]) >= 1


def test_what_is_left_over_of_a_removed_profile_takes_no_time_from_a_replay() -> None:
    trace = small_trace(queue_toml("default", "[[0, 40]]", 0.2), seconds=1200)
    history, _ = recorded(trace)
    before = history.policies[-1].policy
    (profile,) = before.profiles
    other = structs.replace(profile, name="other", numbers=(21, 22))
    left = history.samples[60]
    samples = history.samples[:60] + tuple(
        structs.replace(s, instances=(*(s.instances or ()), *_left_over(left)) if index < 120 else s.instances)
        for index, s in enumerate(history.samples[60:])
    )
    policies = (
        PolicyChange(at_seconds=BEGIN - 10.0, policy=structs.replace(before, profiles=(profile, other))),
        PolicyChange(at_seconds=left.at_seconds - 1.0, policy=before),
    )
    again = reconstruct(structs.replace(history, samples=samples, policies=policies), "again")
    assert not any("profiles that are no more" in note for note in again.notes)
    assert again.trace.duration_seconds == pytest.approx(1195, abs=6)
    assert again.sizes.keys() == {profile.name}


def _left_over(sample: Sample) -> tuple[InstanceSample, ...]:
    """Two instances of the profile that was removed."""
    first = (sample.instances or ())[0]
    return tuple(structs.replace(first, number=number, profile="other") for number in (21, 22))


numbers = st.integers(0, 2000)


@st.composite
def broken_samples(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Anything that a broken world may show: unknown readings, counters that go back, queues that come and go."""
    found: list[Sample] = []
    at = 0.0
    for _ in range(draw(st.integers(2, 40))):
        at += draw(st.sampled_from([5.0, 5.0, 5.0, 7.3, 0.0, -3.0, 200.0, 4000.0]))
        queues = draw(
            st.none()
            | st.dictionaries(
                st.sampled_from(["default", "push", "pull", "odd"]),
                st.builds(
                    QueueSample,
                    length_jobs=numbers,
                    latency_milliseconds=numbers,
                    busy_threads=st.integers(0, 60),
                ),
            )
        )
        found.append(
            Sample(
                at_seconds=BEGIN + at,
                now_seconds=1000.0 + at,
                boot=draw(st.sampled_from(["a", "a", "a", "b"])),
                queues=queues,
                processed_jobs_total=draw(st.none() | numbers),
                failed_jobs_total=None,
                service_milliseconds=draw(st.dictionaries(st.sampled_from(["default", "odd"]), numbers, max_size=2)),
                instances=draw(st.none() | st.just(())),
                foreign_threads=0,
                limit_connections=draw(st.none() | numbers),
                others_connections=draw(st.none() | numbers),
                memory_available_mebibytes=None,
                memory_total_mebibytes=draw(st.none() | numbers),
                boot_milliseconds=draw(st.dictionaries(st.just("local"), numbers, max_size=1)),
            )
        )
    return tuple(found)


def test_the_longest_time_that_can_be_asked_for_is_simulated_or_refused_before_it_is_written() -> None:
    """A calm moment may be an hour earlier than what was asked for."""
    seconds = PAST_SECONDS_MAX + EARLIER_SECONDS_MAX
    trace = small_trace("".join(queue_toml(name) for name in ("default", "push", "pull")), seconds=300)
    longest = structs.replace(trace, duration_seconds=seconds)
    refuse_too_much(longest)
    assert parse_trace(trace_text(longest, ())) == longest
    seven = structs.replace(longest, queues={f"q{n}": trace.queues["push"] for n in range(7)})
    with pytest.raises(RecordingError, match="--since 28d"):
        refuse_too_much(seven)


@settings(max_examples=60, deadline=None)
@given(samples=broken_samples())
def test_any_recording_becomes_a_valid_trace_or_a_sentence(samples: tuple[Sample, ...]) -> None:
    policy = policy_of(small_trace(queue_toml("default"), seconds=300), None)
    recording = Recording(samples=samples, policies=(PolicyChange(at_seconds=BEGIN, policy=policy),))
    try:
        again = reconstruct(recording, "again")
    except RecordingError:
        return
    whole = with_policy(again.trace, again.policy)
    assert parse_trace(trace_text(whole, again.notes)) == whole
    assert all(rate >= 0 and math.isfinite(rate) for q in whole.queues.values() for _, rate in q.arrivals_per_second)
