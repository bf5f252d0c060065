"""What is recorded of the ticks: the log's sentences, and samples that suffice for a trace, all bounded."""

from __future__ import annotations

import itertools

from msgspec import structs

from fleetd.daemon.record import ENTRIES_MAX, sample_of
from tests.support.world.recorded import Recorded, busy_world


def test_recorded_sentences_are_those_of_the_log() -> None:
    rig = Recorded(busy_world())
    rig.live(120)
    rig.world.redis_up = False
    rig.live(30)
    rig.world.redis_up = True
    rig.live(30)
    kept = rig.history.read(0.0, samples=False).entries
    assert [e.sentence for e in kept] == rig.lines
    kinds = {e.kind for e in kept}
    assert {"step", "reason", "reading", "scheduler"} <= kinds
    down = "redis can't be read: Redis at 127.0.0.1:6379 refuses connections"
    assert [e.sentence for e in kept if e.warning] == [down]
    assert next(e for e in kept if e.kind == "step").sentence.startswith("start mastodon-sidekiq@1.service: ")


def test_a_change_of_the_count_is_reported_once_and_before_its_steps() -> None:
    rig = Recorded(busy_world())
    rig.live(120)
    kept = rig.history.read(0.0, samples=False).entries
    wants = [e for e in kept if e.kind == "want"]
    assert any(": default: " in e.sentence and "(target 5 s)" in e.sentence for e in wants)
    assert len({e.sentence for e in wants}) == len(wants)
    starts = [i for i, e in enumerate(kept) if e.kind == "step"]
    assert any(kept[i - 1] in wants for i in starts)
    assert all(e.sentence in rig.lines for e in wants)


def test_the_reason_of_a_stop_has_no_outdated_numbers() -> None:
    world = busy_world()
    rig = Recorded(world)
    rig.live(300)
    world.rates = {}
    rig.live(1800)
    steps = [e.sentence for e in rig.history.read(0.0, samples=False).entries if e.kind == "step"]
    stops = [s for s in steps if s.startswith("stop ")]
    assert stops
    assert all(s.endswith("quiet and idle: more of default-first than is wanted") for s in stops)
    assert any(s.startswith("quiet ") and ", 1 is wanted" in s for s in steps)


def test_a_sample_has_what_a_trace_needs() -> None:
    rig = Recorded(busy_world())
    rig.live(180)
    found = rig.history.read(0.0, samples=True)
    assert [change.policy for change in found.policies] == [rig.world.policy]
    last = found.samples[-1]
    assert last.queues is not None
    assert set(last.queues) == {"default", "push", "ingress", "mailers", "pull", "fasp"}
    assert last.processed_jobs_total
    assert last.service_milliseconds["default"] > 500, "learnt: jobs take one to three seconds"
    assert last.instances
    assert {i.profile for i in last.instances} == {"default-first"}
    assert all(i.resident_mebibytes == 400 for i in last.instances)
    assert (last.limit_connections, last.others_connections) == (197, 20)
    assert last.boot_milliseconds["default-first"] > 10_000
    assert last.memory_available_mebibytes


def test_what_could_not_be_read_is_not_recorded_as_zero() -> None:
    rig = Recorded(busy_world())
    rig.live(60)
    rig.world.redis_up = rig.world.postgres_up = rig.world.systemd_up = False
    last = sample_of(rig.tick(), 5.0)
    assert (last.queues, last.processed_jobs_total, last.instances) == (None, None, None)
    assert (last.limit_connections, last.others_connections) == (None, None)


def test_hurried_ticks_add_no_samples_and_a_minute_is_one_batch() -> None:
    rig = Recorded(busy_world())
    rig.live(120)
    before = len(rig.history.batches)
    rig.live(120, every=1.0)
    times = [s.now_seconds for s in rig.history.read(0.0, samples=True).samples]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 4.5
    quiet = [b for b in rig.history.batches[before:] if not b.entries]
    assert all(len(b.samples) >= 12 for b in quiet)


def test_a_flood_of_sentences_is_cut_off_and_that_is_recorded() -> None:
    rig = Recorded(busy_world())
    for n in range(10 * ENTRIES_MAX):
        rig.recorder.note("noticed", f"{n}")
    for n in range(3 * ENTRIES_MAX):
        rig.recorder.note("order", f"ordered: {n}")
    rig.live(5)
    kept = rig.history.batches[0].entries
    others = [e for e in kept if e.kind not in ("step", "order")]
    assert len(others) == ENTRIES_MAX + 1
    assert "more happened at once" in others[-1].sentence
    assert [e.kind for e in kept].count("order") == 3 * ENTRIES_MAX
    assert [e.sentence for e in kept if e.kind == "step"] == [s for s in rig.lines if s.startswith("start ")] != []


def test_a_changed_policy_is_recorded_with_its_time_and_an_equal_one_is_not() -> None:
    rig = Recorded(busy_world())
    rig.live(60)
    rig.world.policy = rig.ticker.policy = structs.replace(rig.world.policy, targets_seconds={"default": 7.0})
    rig.live(60)
    rig.recorder.flush()
    found = rig.history.read(0.0, samples=True)
    assert [c.policy.target_seconds("default") for c in found.policies] == [5.0, 7.0]
    assert [s.now_seconds for s in found.samples] == sorted(s.now_seconds for s in found.samples)


def test_a_full_disk_does_not_stop_the_ticks() -> None:
    rig = Recorded(busy_world())
    rig.history.full = True
    rig.live(120)
    assert rig.serving() > 1
    assert rig.history.batches == []
