"""The demo's phases, configuration and counting, tested on values."""

from pathlib import Path

import pytest

from fleetd.config import load as load_settings
from lab.demo import story
from lab.demo.__main__ import main
from lab.demo.count import doubles
from lab.demo.samples import Sample, Samples
from lab.demo.stage import CONFIGURATION
from lab.demo.watch import unit_counts
from lab.jobs.load import Load, Phase


def sample(
    waits: float | None = 0.0, waiting: int | None = 0, instances: int | None = 2, busy: int | None = 0
) -> Sample:
    return Sample(
        at_seconds=0.0,
        waiting_jobs=None if waiting is None else {"default": waiting},
        waits_seconds=None if waits is None else {"default": waits},
        busy_threads=busy,
        retries_jobs=0,
        serving_instances=instances,
        starting_instances=0,
        stopping_instances=0,
    )


def test_the_story_and_its_configuration_agree() -> None:
    policy = load_settings(Path(CONFIGURATION)).policy
    assert {queue: policy.target_seconds(queue) for queue in story.TARGETS_SECONDS} == story.TARGETS_SECONDS
    assert sum(profile.min_instances for profile in policy.profiles) == story.INSTANCES_MIN
    assert policy.pace.hold_down_seconds == story.HOLD_SECONDS
    assert policy.scheduler.place == "here"


def test_connections_end_the_growth() -> None:
    policy = load_settings(Path(CONFIGURATION)).policy
    claim = policy.profiles[0].claim_connections
    others = story.WEB_CONNECTIONS + 2  # fleetd and the demo have a connection each
    superusers = 3
    room = story.MAX_CONNECTIONS - superusers - policy.connections.reserve - others
    affordable = (room - policy.scheduler.claim_connections) // claim
    most = sum(profile.max_instances for profile in policy.profiles)
    assert story.INSTANCES_MIN + 2 <= affordable < most
    load = Load(phases=(), job_scale=story.JOB_SCALE)
    threads = policy.profiles[0].threads
    assert load.mean_threads(Phase(1, story.CALM)) < story.INSTANCES_MIN * threads * 0.4
    assert load.mean_threads(Phase(1, story.SURGE)) > 1.5 * affordable * threads


def test_the_fleet_has_recovered_only_once_that_lasts() -> None:
    late, well = sample(waits=6.0), sample()
    assert not story.recovered([well, well])
    assert not story.recovered([well, late, well])
    assert story.recovered([late, well, well, well])
    assert not story.recovered([well, well, sample(waits=None)])
    assert not story.recovered([well, well, sample(waiting=None)])
    assert not story.recovered([sample(waiting=5000)] * 3)


def test_the_fleet_has_shrunk_only_when_that_is_known() -> None:
    assert story.shrunk([sample(instances=3), sample(), sample()])
    assert not story.shrunk([sample(), sample(instances=3)])
    assert not story.shrunk([sample(instances=None)] * 3)
    draining = Sample(at_seconds=0, serving_instances=2, starting_instances=0, stopping_instances=1)
    assert not story.shrunk([draining, draining])


def test_all_is_done_only_when_nothing_waits_runs_or_is_put_off() -> None:
    assert story.finished([sample(), sample()])
    assert not story.finished([sample(), sample(busy=1)])
    assert not story.finished([sample(), sample(waiting=1)])
    assert not story.finished([sample(), sample(busy=None)])


def test_only_calm_and_surge_have_a_set_length() -> None:
    usual, long = story.phases(), story.phases(2.0)
    stretched = [b.name for a, b in zip(usual, long, strict=True) if b.seconds_max == 2 * a.seconds_max]
    assert stretched == ["calm", "surge"] == [phase.name for phase in usual if phase.timed]


def test_cron_jobs_enqueued_again_too_soon_are_counted() -> None:
    one = [(float(at), name) for at in range(0, 60, 10) for name in ("a", "b")]
    assert doubles(one, 10) == 0
    assert doubles([*one, *((at + 3.0, name) for at, name in one)], 10) == 12
    assert doubles([*one, (25.0, "a")], 10) == 2  # it is too soon, and so is the one after it


def test_units_are_counted_by_state() -> None:
    listed = (
        "mastodon-sidekiq@1.service loaded active running Mastodon Sidekiq, instance 1\n"
        "mastodon-sidekiq@2.service loaded activating start Mastodon Sidekiq, instance 2\n"
        "mastodon-sidekiq@3.service loaded deactivating stop-sigterm Mastodon Sidekiq, instance 3\n"
        "mastodon-sidekiq@4.service loaded failed failed Mastodon Sidekiq, instance 4\n"
    )
    assert unit_counts(listed) == {
        "serving_instances": 1,
        "starting_instances": 1,
        "stopping_instances": 1,
    }
    assert set(unit_counts("").values()) == {0}


def test_samples_are_bounded() -> None:
    samples = Samples(taken_max=3)
    for at in range(10):
        samples.add(Sample(at_seconds=at))
    assert [one.at_seconds for one in samples.taken] == [7, 8, 9]


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "much", "100"])
def test_nonsense_on_the_command_line_is_refused(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--seconds-scale={scale}"])
    assert ended.value.code == 2
    assert "--seconds-scale" in capsys.readouterr().err
