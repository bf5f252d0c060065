"""A worker's rendered settings, read back by a shell: systemd's environment files have the same quoting."""

import subprocess
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.model.facts import RenderedSettings
from fleetd.core.model.identity import SCHEDULER, InstanceKey, parse_tag
from fleetd.core.model.policy_tables import Policy, Profile, SchedulerPolicy
from fleetd.core.model.worker_settings import (
    SHUTDOWN_SECONDS,
    WorkerSettings,
    all_settings,
    instance_digest,
    instance_settings,
    min_numbers,
    parse_settings,
    read_rendered,
    scheduler_digest,
    scheduler_settings,
    settings_file_name,
)

FIVE = InstanceKey(5)


def profile(name: str = "push-first", **changes: Any) -> Profile:
    values: dict[str, Any] = {
        "name": name,
        "order": "strict",
        "queues": (("push", 1), ("default", 1)),
        "threads": 25,
        "db_pool": 27,
        "numbers": (5, 6, 7),
        "min_instances": 2,
        "max_instances": 3,
    }
    return Profile(**{**values, **changes})


def policy(*profiles: Profile) -> Policy:
    return Policy(host="worker1", profiles=profiles or (profile(),), targets_seconds={})


def by_shell(settings: WorkerSettings) -> dict[str, str]:
    """The variables of the file, as a shell reads them."""
    script = f'{settings.text}\nfor n in SIDEKIQ_ARGS DB_POOL FLEETD_PROFILE PGOPTIONS; do eval "echo \\$$n"; done'
    done = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    names = ("SIDEKIQ_ARGS", "DB_POOL", "FLEETD_PROFILE", "PGOPTIONS")
    return dict(zip(names, done.stdout.splitlines(), strict=True))


def test_an_instance_serves_its_queues_in_order_and_says_who_it_is() -> None:
    got = instance_settings(policy(), profile(), FIVE, name_connections=True)
    tag = f"fleetd:worker1:5:p27:{got.digest}"
    assert by_shell(got) == {
        "SIDEKIQ_ARGS": f"-q push -q default -c 25 -t 25 -g {tag}",
        "DB_POOL": "27",
        "FLEETD_PROFILE": "push-first",
        "PGOPTIONS": "-c application_name=mastodon-sidekiq@5.worker1",
    }
    assert settings_file_name(got.key) == "5.env"


def test_every_queue_of_a_weighted_profile_has_its_weight() -> None:
    weighted = profile(order="weighted", queues=(("default", 4), ("push", 1)))
    assert by_shell(instance_settings(policy(), weighted, FIVE, name_connections=False))["SIDEKIQ_ARGS"].startswith(
        "-q default,4 -q push,1 -c "
    )


def test_through_pgbouncer_connections_have_no_names() -> None:
    assert "PGOPTIONS" not in instance_settings(policy(), profile(), FIVE, name_connections=False).text
    assert "PGOPTIONS" not in scheduler_settings(policy(), name_connections=False).text


def test_the_scheduler_serves_its_queue_and_nothing_else() -> None:
    got = scheduler_settings(policy(), name_connections=True)
    shell = by_shell(got)
    assert shell["SIDEKIQ_ARGS"] == f"-q scheduler -c 10 -t 25 -g fleetd:worker1:scheduler:p12:{got.digest}"
    assert shell["PGOPTIONS"] == "-c application_name=mastodon-sidekiq-scheduler.worker1"
    assert settings_file_name(got.key) == "scheduler.env"
    assert got.digest == scheduler_digest(SchedulerPolicy())


def test_every_rendered_file_names_the_queues_for_sidekiq() -> None:
    """Law 1: without -q Sidekiq serves every queue in Mastodon's file, including the scheduler's."""
    for settings in all_settings(policy(profile(), profile("b", numbers=(1,))), name_connections=True):
        words = by_shell(settings)["SIDEKIQ_ARGS"].split()
        served = [word for option, word in pairwise(words) if option == "-q"]
        assert served
        assert ("scheduler" in served) == (settings.key == SCHEDULER)


def test_sidekiqs_stop_timeout_is_given() -> None:
    assert f"-t {SHUTDOWN_SECONDS} " in instance_settings(policy(), profile(), FIVE, name_connections=True).text


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"name": "other"}, True),
        ({"numbers": (1,), "min_instances": 0, "max_instances": 1}, True),
        ({"threads": 24}, False),
        ({"db_pool": 28}, False),
        ({"queues": (("default", 1), ("push", 1))}, False),
        ({"order": "weighted"}, False),
    ],
)
def test_the_digest_covers_what_affects_the_process_and_nothing_else(changes: dict[str, Any], same: bool) -> None:
    assert (instance_digest(profile(**changes)) == instance_digest(profile())) is same


def test_the_digest_is_the_same_on_every_host_and_number() -> None:
    elsewhere = Policy(host="worker2", profiles=(profile(),), targets_seconds={})
    digests = {
        instance_settings(where, profile(), key, name_connections=named).digest
        for where in (policy(), elsewhere)
        for key in (FIVE, InstanceKey(6))
        for named in (True, False)
    }
    assert digests == {instance_digest(profile())}


def test_rendered_settings_are_read_back() -> None:
    settings = instance_settings(policy(), profile(), FIVE, name_connections=True)
    assert settings.key == FIVE
    rendered = RenderedSettings(profile="push-first", digest=settings.digest, threads=25, db_pool=27)
    assert read_rendered(FIVE, settings.text) == rendered
    assert str(parse_tag(settings.tag)) == settings.tag


def test_settings_of_another_number_or_written_by_hand_are_not_ours() -> None:
    text = instance_settings(policy(), profile(), FIVE, name_connections=True).text
    assert read_rendered(InstanceKey(6), text) is None
    assert read_rendered(FIVE, text.replace("-g ", "-G ")) is None
    assert read_rendered(FIVE, text.replace("FLEETD_PROFILE", "#FLEETD_PROFILE")) is None
    assert read_rendered(FIVE, "") is None


@given(st.text(max_size=200))
def test_nonsense_in_a_settings_file_is_no_settings(text: str) -> None:
    assert read_rendered(FIVE, text) is None
    assert all(isinstance(value, str) for value in parse_settings(text).values())


def test_a_boot_starts_the_lowest_numbers_of_each_profile() -> None:
    """Law 5: workers run even if fleetd does not."""
    both = policy(profile(), profile("b", numbers=(1, 9), min_instances=1), profile("c", numbers=(2,), min_instances=0))
    assert min_numbers(both) == (5, 6, 1)


def test_no_value_can_break_out_of_its_line() -> None:
    for name in ('a"b', "a\\b", "a$b", "a`b", "a\nb", "a%b"):
        with pytest.raises(ValueError, match="FLEETD_PROFILE"):
            instance_settings(policy(), profile(name), FIVE, name_connections=True)
