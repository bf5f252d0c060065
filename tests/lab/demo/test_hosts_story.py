"""The story of three hosts and its configuration, tested on values."""

from pathlib import Path
from textwrap import wrap

import pytest

from fleetd.config import load as load_settings
from fleetd.core.model.policy_tables import Policy
from lab.demo import story as one_host
from lab.demo.hosts import story
from lab.demo.hosts.stage import configuration
from lab.demo.samples import Sample
from lab.jobs.load import Phase

SUPERUSERS = 3


def policy(host: str, folder: Path) -> Policy:
    path = folder / "fleetd.toml"
    path.write_text(configuration(host))
    return load_settings(path).policy


def sample(instances: dict[str, int] | None, *schedulers: str) -> Sample:
    return Sample(at_seconds=0.0, instances_by_host=instances, scheduler_hosts=schedulers)


ALL = {"w1": 2, "w2": 2, "w3": 3}
TWO = {"w2": 4, "w3": 4}


def test_one_host_has_the_scheduler_and_the_others_may_take_it_over(tmp_path: Path) -> None:
    places = {host: policy(host, tmp_path).scheduler.place for host in story.HOSTS}
    assert places == {"w1": "here", "w2": "auto", "w3": "auto"}
    assert [host for host, place in places.items() if place == "here"] == [story.FIRST_SCHEDULER]


def test_the_story_and_its_configuration_agree(tmp_path: Path) -> None:
    found = policy("w2", tmp_path)
    assert found.scheduler.takeover_seconds == story.TAKEOVER_SECONDS
    assert {queue: found.target_seconds(queue) for queue in one_host.TARGETS_SECONDS} == one_host.TARGETS_SECONDS
    [profile] = found.profiles
    assert (profile.min_instances, profile.max_instances) == (story.INSTANCES_MIN, story.INSTANCES_MAX)


def test_the_database_has_room_for_all_that_the_others_may_run_beside_what_the_lost_host_had(tmp_path: Path) -> None:
    found = policy("w2", tmp_path)
    [profile] = found.profiles
    room = story.MAX_CONNECTIONS - SUPERUSERS - found.connections.reserve - 5  # three fleetds, demo and observers
    lost = 3 * profile.claim_connections + found.scheduler.claim_connections
    others = 2 * story.INSTANCES_MAX * profile.claim_connections + found.scheduler.claim_connections
    assert lost + others <= room


def test_the_calm_needs_no_more_than_min_and_the_surge_all_that_two_hosts_have(tmp_path: Path) -> None:
    [profile] = policy("w2", tmp_path).profiles
    smallest = len(story.HOSTS) * story.INSTANCES_MIN * profile.threads
    two_hosts = 2 * story.INSTANCES_MAX * profile.threads
    load = story.load_of(1.0)
    assert load.mean_threads(Phase(1, story.CALM)) < 0.4 * smallest
    assert 2 * smallest < load.mean_threads(Phase(1, story.SURGE)) < 1.1 * two_hosts


def test_the_power_goes_once_all_hosts_have_grown() -> None:
    assert story.grown([sample(ALL)] * 4)
    assert not story.grown([sample(ALL)] * 3)
    assert not story.grown([sample({**ALL, "w2": 1})] * 4)
    assert not story.grown([sample({"w1": 3, "w2": 3})] * 4)
    assert not story.grown([sample(None)] * 4)


def test_it_is_taken_over_once_one_lives_elsewhere() -> None:
    after = sample(TWO, "w2")
    assert story.taken_over([after, after])
    assert not story.taken_over([after])
    assert not story.taken_over([sample(ALL, "w1")] * 2), "a look from before the power went"
    assert not story.taken_over([sample(TWO)] * 2)
    assert not story.taken_over([sample(TWO, "w2", "w3")] * 2)


def test_the_host_is_back_once_that_lasts() -> None:
    assert story.returned([sample(ALL, "w2")] * 5)
    assert not story.returned([sample(ALL, "w2")] * 4)
    assert not story.returned([*[sample(ALL, "w2")] * 4, sample(TWO, "w2")])
    assert not story.returned([*[sample(ALL, "w2")] * 4, sample(ALL, "w1", "w2")])


def test_calm_and_surge_can_be_stretched() -> None:
    usual, long = story.load_of(1.0), story.load_of(2.0)
    assert [phase.seconds for phase in long.phases[:2]] == [2 * phase.seconds for phase in usual.phases[:2]]
    assert [phase.name for phase in story.phases() if phase.timed] == ["calm"]
    surge = next(phase for phase in story.phases(2.0) if phase.name == "surge")
    assert not surge.over([sample(ALL)] * 29)
    assert surge.over([sample(ALL)] * 30)


def test_what_to_watch_for_fits_two_lines() -> None:
    for phase in story.phases():
        assert len(wrap(phase.watch, 80)) <= 2, phase.name


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0])
def test_jobs_come_until_the_story_ends(scale: float) -> None:
    told = sum(phase.seconds_max for phase in story.phases(scale))
    assert sum(phase.seconds for phase in story.load_of(scale).phases) > told
