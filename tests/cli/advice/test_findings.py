from __future__ import annotations

import pytest
from msgspec.structs import replace

from fleetd.cli.advice.findings import findings, headline
from fleetd.cli.advice.verdict import Level
from fleetd.core.model.facts import EndCause, Ending
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, DeathsStatus, SchedulerStatus, Status, StepStatus
from tests.support.builders import status_connections, status_examples, status_instances
from tests.support.builders.status_healthy import healthy, instance


def said(status: Status) -> str:
    return " ".join(finding.sentence for finding in findings(status))


def test_on_a_quiet_afternoon_only_all_well_is_reported() -> None:
    assert headline(healthy()).sentence == "All is well: every queue waits less than its target."
    assert headline(healthy()).level == Level.OK
    assert findings(healthy()) == ()


@pytest.mark.parametrize(
    ("failed", "level", "begins"),
    [(21.6, Level.BAD, "Nearly all jobs fail, 21.6/s of 22/s"), (12.0, Level.WARN, "Most jobs fail, 12/s of 22/s")],
)
def test_jobs_that_fail_are_not_all_well(failed: float, level: Level, begins: str) -> None:
    """Their queues are short: a job that fails at once takes no time."""
    jobs = replace(healthy().jobs, processed_per_second=22.0, failed_per_second=failed)
    first = headline(replace(healthy(), jobs=jobs))
    assert first.level == level
    assert first.sentence.startswith(begins)


@pytest.mark.parametrize(("done", "failed"), [(22.0, 5.0), (0.02, 0.02), (None, None)])
def test_some_jobs_always_fail(done: float | None, failed: float | None) -> None:
    jobs = replace(healthy().jobs, processed_per_second=done, failed_per_second=failed)
    assert headline(replace(healthy(), jobs=jobs)).level == Level.OK


def test_a_surge_names_the_worst_queues_and_what_stands_in_the_way() -> None:
    first = headline(status_examples.surge())
    assert first.level == Level.BAD
    assert first.sentence == (
        "3 queues wait too long: default 94 s (target 15 s), pull 21 min (target 5 min) and 1 more; "
        "the fleet can't grow because of connections and max."
    )


def test_a_surge_that_fleetd_is_handling_is_reported_as_such() -> None:
    surge = status_examples.surge()
    growing = replace(
        surge,
        clamps=(),
        profiles=tuple(
            replace(p, clamps=(), admitted_instances=(p.running_instances or 0) + 1) for p in surge.profiles
        ),
    )
    assert headline(growing).sentence.endswith("and 1 more; 3 more instances on the way.")


def test_a_lost_source_is_reported_once_with_its_reason_and_consequence() -> None:
    found = findings(status_examples.redis_down())
    assert [finding.level for finding in found] == [Level.UNKNOWN]
    assert "nothing is stopped" in found[0].sentence
    assert "refused the connection" in found[0].sentence


def test_a_single_unknown_queue_is_named() -> None:
    base = healthy()
    odd = replace(base, queues=(replace(base.queues[0], latency_seconds=None), *base.queues[1:]))
    assert headline(odd).sentence == "How long default waits is unknown."


def test_an_outdated_status_is_reported_before_everything_else() -> None:
    stuck = replace(status_examples.surge(), tick_age_seconds=95.0)
    assert headline(stuck).sentence.startswith("fleetd is stuck: its last tick ended 95 s ago")


def test_another_version_than_fleetctls_is_a_warning_after_what_is_worse() -> None:
    [found] = findings(replace(healthy(), version="9.0.0"))
    assert found.level == Level.WARN
    assert "fleetd 9.0.0 runs, and this is fleetctl 0.1.0" in found.sentence
    assert "systemctl restart fleetd" in found.sentence
    assert "9.0.0" not in headline(replace(status_examples.redis_down(), version="9.0.0")).sentence


def test_two_schedulers_or_none_are_wrong_and_unknown_is_unknown() -> None:
    for processes, level in ((2, Level.BAD), (0, Level.BAD), (None, Level.UNKNOWN)):
        scheduler = SchedulerStatus(processes=processes, where=("a", "b"), sentence="as it is")
        assert headline(replace(healthy(), scheduler=scheduler)).level == level


def test_a_takeover_that_waits_is_a_warning() -> None:
    assert headline(status_examples.scheduler_held()).level == Level.WARN


def test_fleetds_problems_and_failed_steps_are_reported() -> None:
    step = StepStatus(
        verb="start", unit="mastodon-sidekiq@4.service", result="refused", why="", sentence="polkit said no"
    )
    status = replace(healthy(), problems=("the new configuration was refused",), step_results=(step,))
    assert "the new configuration was refused." in said(status)
    assert "start mastodon-sidekiq@4.service was refused: polkit said no." in said(status)
    assert findings(status)[0].level == Level.BAD


def test_claims_over_the_limit_say_by_how_many() -> None:
    found = headline(status_connections.overrun())
    assert found.level == Level.BAD
    assert "37 more than its limit of 697 (700 − 3 reserved for superusers)" in found.sentence
    assert "The largest of them: mastodon from 10.0.0.4 (puma) 296" in found.sentence


def test_a_hold_comes_first_and_other_problems_after_it() -> None:
    first, second = findings(status_instances.upgrade())
    assert (first.banner, first.level) == ("UPGRADE", Level.WARN)
    assert second.sentence == (
        "1 queue waits too long: default 21 s (target 15 s); the fleet can't grow because of the upgrade."
    )
    assert headline(status_instances.paused()).banner == "PAUSE, 1.8 h left"
    stuck = replace(status_instances.paused(), tick_age_seconds=95.0)
    assert headline(stuck).sentence.startswith("fleetd is stuck"), "then the hold may be old news"


def test_a_count_that_people_set_is_reported_only_if_it_is_too_small() -> None:
    surge = status_examples.surge()
    for granted, blamed in ((2, True), (12, False)):
        clamp = ClampStatus(
            code=ClampCode.SET,
            profile="default-first",
            before_instances=9,
            after_instances=granted,
            sentence="set by fleetctl",
        )
        profiles = (replace(surge.profiles[0], clamps=(clamp,)),)
        status = replace(surge, clamps=(clamp,), profiles=profiles, instances=())
        assert ("because of fleetctl set" in headline(status).sentence) == blamed


def test_every_sick_instance_is_named_with_its_reason_worst_first() -> None:
    assert [(f.level, f.sentence.split(":")[0]) for f in findings(status_instances.sick())] == [
        (Level.BAD, "Instance 4 has failed"),
        (Level.BAD, "Instance 3 is unresponsive"),
        (Level.WARN, "The restart was given up at 1 of 5"),
        (Level.WARN, "Instance 2 is undrainable"),
    ]


def test_a_sick_instance_is_reported_with_its_note() -> None:
    note = "failed 2 times: killed; tried again in 15 s"
    ill = (instance(2, "default-first", None, state="failed", note=note),)
    assert headline(replace(healthy(), instances=ill)).sentence == (
        "Instance 2 has failed: failed 2 times: killed; tried again in 15 s."
    )


def test_many_in_the_same_state_are_one_finding() -> None:
    ill = tuple(instance(n, "default-first", None, state="unresponsive", note="x") for n in range(1, 9))
    [found] = findings(replace(healthy(), instances=ill))
    assert found.sentence == ("Instances 1, 2, 3, 4 and 4 more are unresponsive: alive, but no heartbeat for long.")


def test_a_restart_that_is_under_way_or_done_is_no_finding() -> None:
    assert findings(status_instances.rolling()) == ()
    assert findings(status_instances.rolled()) == ()


def test_failed_instances_are_named_with_where_to_look() -> None:
    base = healthy()
    status = replace(base, instances=(replace(base.instances[0], state="failed"), *base.instances[1:]))
    assert headline(status).sentence == "Instance 1 has failed: see journalctl -u mastodon-sidekiq@1."


def test_findings_about_connections_are_sentences() -> None:
    assert "Others can't be told from our workers on PgBouncer" in said(status_connections.behind_pgbouncer())
    assert headline(status_connections.behind_pgbouncer()).level == Level.WARN
    late, more = findings(status_connections.saturation())
    assert late.sentence.endswith("the fleet can't grow because of the database, which is the bottleneck.")
    assert more.level == Level.WARN
    assert more.sentence.startswith("More workers would not help: 14 clients wait")


def test_refused_clients_are_the_headline() -> None:
    first = headline(status_connections.refused())
    assert first.level == Level.BAD
    assert first.sentence.startswith("Postgres refuses new clients, too many already:")


def test_a_lost_replica_or_pgbouncer_says_that_nothing_grows() -> None:
    assert headline(status_connections.replica_lost()).sentence == (
        "The replica's connections are unknown, so nothing grows above min: 10.0.0.7:5432 refused the connection."
    )
    base = status_connections.behind_pgbouncer()
    lost = tuple(replace(s, ok=False, why="down") for s in base.sources if s.name == "pgbouncer")
    assert "PgBouncer's connections are unknown" in headline(replace(base, sources=lost)).sentence


def test_a_profile_that_gives_way_is_no_problem() -> None:
    clamp = status_connections.saturation().clamps[1]
    assert clamp.code == ClampCode.YIELD
    base = healthy()
    status = replace(base, profiles=(base.profiles[0], replace(base.profiles[1], clamps=(clamp,))))
    assert headline(status).level == Level.OK
    assert headline(status).sentence.startswith("All is well")


def died(deaths: int, seconds: float, ending: Ending, *, at_least: bool = False) -> DeathsStatus:
    return DeathsStatus(deaths=deaths, at_least=at_least, last_age_seconds=seconds, last=ending)


KILL = Ending(cause=EndCause.SIGNAL, signal=9)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (KILL, "by SIGKILL"),
        (Ending(cause=EndCause.SIGNAL, signal=50), "by signal 50"),
        (Ending(cause=EndCause.CORE_DUMP, signal=11), "by SIGSEGV, with a core dump"),
        (Ending(cause=EndCause.EXIT, exit_status=1), "with exit status 1"),
        (Ending(cause=EndCause.EXIT), "with an error"),
        (Ending(cause=EndCause.OOM, signal=9), "by the OOM killer"),
        (Ending(cause=EndCause.TIMEOUT), "by systemd's timeout"),
        (Ending(cause=EndCause.WATCHDOG, signal=6), "by systemd's watchdog"),
        (Ending(cause=EndCause.UNKNOWN), "of an unknown cause"),
    ],
)
def test_where_a_worker_died_lately_not_all_is_well(ending: Ending, words: str) -> None:
    base = healthy()
    one = replace(base.instances[0], died=died(5, 40.0, ending))
    first = headline(replace(base, instances=(one, *base.instances[1:])))
    assert first.level == Level.WARN
    assert first.sentence == (
        f"@{one.number} died 5 times in the last hour, last {words}, 40 s ago: "
        f"journalctl -u mastodon-sidekiq@{one.number}"
    )


def test_all_deaths_are_one_finding_and_the_latest_is_named() -> None:
    base = healthy()
    seconds = iter((500.0, 9.0, 700.0))
    ill = tuple(replace(i, died=died(2, next(seconds), KILL)) for i in base.instances[:3])
    numbers = [i.number for i in ill]
    scheduler = replace(base.scheduler, died=died(100, 60.0, KILL, at_least=True))
    [found] = findings(replace(base, instances=(*ill, *base.instances[3:]), scheduler=scheduler))
    assert found.sentence == (
        f"@{numbers[1]}, @{numbers[0]}, @{numbers[2]}, the scheduler died at least 106 times in the last hour, last "
        f"@{numbers[1]} by SIGKILL, 9 s ago: journalctl -u mastodon-sidekiq@{numbers[1]}"
    )


def test_a_rollout_under_way_is_what_is_said_of_a_fleet_that_is_well() -> None:
    rolling = status_instances.rolling()
    code = ClampCode.NO_NUMBER_FREE
    clamp = ClampStatus(code=code, profile="pull-first", before_instances=3, after_instances=2, sentence="in use")
    busy = replace(rolling, profiles=(rolling.profiles[0], replace(rolling.profiles[1], clamps=(clamp,))))
    first = headline(busy)
    assert (first.level, first.sentence) == (
        Level.OK,
        "Queues are within their targets. The restart is under way, 2 of 5 done.",
    )
    assert "pull-first can't grow further" in headline(replace(busy, rollout=None)).sentence


def test_a_clamp_that_leaves_the_number_as_it_is_keeps_nothing_from_growing() -> None:
    base = healthy()
    clamp = ClampStatus(
        code=ClampCode.CONNECTIONS, profile="pull-first", before_instances=2, after_instances=2, sentence="few left"
    )
    status = replace(base, profiles=(base.profiles[0], replace(base.profiles[1], clamps=(clamp,))))
    assert headline(status).sentence.startswith("All is well")


def test_that_it_only_observes_is_a_banner_and_no_fault() -> None:
    watching = replace(healthy(), mode="observe")
    [only] = findings(watching)
    assert (only.level, only.banner) == (Level.OK, "OBSERVES ONLY")
    assert 'mode = "act"' in only.sentence
    assert "systemctl reload fleetd" in only.sentence
    first, second, *_ = findings(replace(status_examples.surge(), mode="observe", clamps=(), profiles=()))
    assert first.banner == "OBSERVES ONLY"
    assert "on the way" not in second.sentence
