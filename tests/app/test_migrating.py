"""The steps of a migration, by what is seen; and that a run goes on from wherever things stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleetd.app.migrating.plan import SCHEDULER, NextStep, next_step, next_step_back, steps_of
from fleetd.app.migrating.record import forget_record, load_record, one_at_a_time, record_of, save_record
from fleetd.app.migrating.run import AGAIN_SECONDS, REPEATS_MAX, Runner, perform
from fleetd.app.migrating.seen import Record, Seen, WorkerUnit
from fleetd.core.model.identity import TARGET_UNIT
from fleetd.errors import FleetdError

STOCK = WorkerUnit(
    name="mastodon-sidekiq.service", active=True, enabled=True, stop_seconds=60.0, pid=7, busy_threads=3, scheduler=True
)
PUSH = replace(STOCK, name="mastodon-sidekiq-push.service", pid=8, scheduler=False)
FRESH = Seen(old=(STOCK,), ours=(), wanted_instances=2)
INSTANCE = WorkerUnit(name="mastodon-sidekiq@1.service", active=True, stop_seconds=60.0, pid=9)
OURS = replace(INSTANCE, name=SCHEDULER, pid=10, scheduler=True)
RUNNING = Seen(
    old=(replace(STOCK, active=False, enabled=False, pid=0),),
    ours=(INSTANCE, OURS),
    rendered=True,
    fleetd_active=True,
    fleetd_enabled=True,
    target_enabled=True,
    answers=True,
    wanted_instances=1,
    serving_instances=1,
    scheduler_serves=True,
)
BEFORE = Record(enabled=(STOCK.name,), active=(STOCK.name,))


def commands(steps: tuple[NextStep, ...]) -> list[str]:
    return [command for step in steps for command in step.commands]


def test_from_the_stock_unit() -> None:
    steps = steps_of(FRESH)
    assert commands(steps) == [
        "systemctl start fleetd-render",
        "systemctl enable --now fleetd",
        f"systemctl enable --now {TARGET_UNIT}",
        "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq.service",
        "systemctl disable --now mastodon-sidekiq.service",
    ]
    assert [step.says for step in steps if step.kind == "wait"][-2:] == [
        "mastodon-sidekiq.service finishes 3 jobs",
        "fleetd starts the scheduler 20 s after the last one took no more jobs",
    ]
    assert steps[-1].kind == "done"


def test_per_queue_units_go_one_at_a_time_and_the_scheduler_last() -> None:
    done = commands(steps_of(replace(FRESH, old=(PUSH, STOCK))))
    assert [line.split()[-1] for line in done[3:]] == [PUSH.name, PUSH.name, STOCK.name, STOCK.name]


def test_a_unit_with_a_wrapper_gets_the_quiet_where_sidekiq_is() -> None:
    wrapped = replace(STOCK, loud_pids=(4711, 4712), pid=4711)
    assert "kill -TSTP 4711 4712   # of mastodon-sidekiq.service" in commands(steps_of(replace(FRESH, old=(wrapped,))))


def test_a_unit_that_would_be_killed_gets_more_time_first() -> None:
    done = commands(steps_of(replace(FRESH, old=(replace(STOCK, stop_seconds=15.0),))))
    assert "TimeoutStopSec=60" in done[2]
    assert done.index(done[2]) < done.index("systemctl disable --now mastodon-sidekiq.service")


def test_somebodys_template_is_put_aside_and_runs_on() -> None:
    file = "/etc/systemd/system/mastodon-sidekiq@.service"
    named = replace(STOCK, name="mastodon-sidekiq@default.service")
    done = commands(steps_of(replace(FRESH, old=(named,), hiding=(file,))))
    assert f"mv {file} /var/lib/mastodon-sidekiq/before-fleetd/mastodon-sidekiq@.service" in done
    assert not any("restart mastodon" in line or "stop mastodon" in line for line in done)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"problems": ("Redis: it is away",)}, "Redis: it is away"),
        ({"rendered": True, "short_connections": 12}, "12 are missing"),
        ({"short_connections": None}, "the database can't be read"),
        ({"held": "Paused by hand: a test."}, "Paused by hand: a test."),
        ({"unstartable": (SCHEDULER,)}, f"would not start {SCHEDULER}"),
        ({"entangled": ("stopping it would stop mastodon-web.service",)}, "mastodon-web.service"),
    ],
)
def test_what_keeps_it_from_going_on(changes: dict[str, object], says: str) -> None:
    step = next_step(replace(FRESH, **changes))
    assert (step.kind, step.commands) == ("stuck", ())
    assert says in step.says


def test_nothing_goes_while_the_new_ones_do_not_serve() -> None:
    waiting = replace(RUNNING, old=(STOCK,), serving_instances=0)
    assert next_step(waiting).kind == "wait"
    assert (
        next_step(replace(waiting, answers=False, why_not="postgres: away")).says
        == "fleetd is not ready: postgres: away"
    )
    assert next_step(replace(waiting, serving_instances=1)).commands


def test_a_unit_without_a_heartbeat_is_not_stopped() -> None:
    assert next_step(replace(RUNNING, old=(replace(STOCK, pid=0),))).kind == "wait"


def test_the_scheduler_is_waited_for_where_it_belongs_here() -> None:
    none = replace(RUNNING, scheduler_serves=False, scheduler_says="Its unit failed.")
    assert next_step(none).kind == "wait"
    assert "Its unit failed." in next_step(none).says
    assert next_step(replace(none, schedulers_elsewhere=1)).kind == "done"


def test_the_last_scheduler_does_not_go_where_none_may_follow_it() -> None:
    elsewhere = replace(RUNNING, old=(STOCK,), scheduler_here=False, scheduler_serves=False)
    step = next_step(elsewhere)
    assert (step.kind, step.commands) == ("stuck", ())
    assert 'place = "elsewhere"' in step.says
    assert next_step(replace(elsewhere, schedulers_elsewhere=1)).commands


def test_what_was_stopped_by_hand_is_released_before_an_old_unit_goes() -> None:
    """After a way back fleetd takes the stops of its units for orders."""
    done = commands(steps_of(replace(RUNNING, old=(STOCK,), pins=("1", "scheduler"))))
    assert done[:2] == ["fleetctl release 1", "fleetctl release scheduler"]
    assert any("TSTP" in line for line in done[2:])


def test_a_target_stopped_in_this_boot_is_started_again() -> None:
    """As after a way back: fleetd starts nothing while it is stopped."""
    stopped = replace(RUNNING, old=(STOCK,), target_stopped=True, serving_instances=0)
    assert next_step(stopped).commands == (f"systemctl enable --now {TARGET_UNIT}",)


def test_where_all_is_done_a_pause_changes_nothing() -> None:
    assert next_step(replace(RUNNING, held="Paused.")).kind == "done"


def test_back_to_the_stock_unit() -> None:
    """Ours that schedules is gone before the one of before is started; instances go once that one beats."""
    done = commands(steps_of(RUNNING, BEFORE))
    assert done == [
        "systemctl disable --now fleetd",
        f"systemctl kill --kill-who=main --signal=TSTP {SCHEDULER}",
        f"systemctl stop {SCHEDULER}",
        "systemctl enable mastodon-sidekiq.service",
        "systemctl start mastodon-sidekiq.service",
        f"systemctl kill --kill-who=main --signal=TSTP {INSTANCE.name}",
        f"systemctl stop {INSTANCE.name}",
        f"systemctl disable --now {TARGET_UNIT}",
    ]


def test_back_to_a_template_of_the_same_names() -> None:
    file = "/etc/systemd/system/mastodon-sidekiq@.service"
    record = Record(enabled=("mastodon-sidekiq@default.service", SCHEDULER), moved=(file,))
    steps = steps_of(replace(RUNNING, old=(), aside=("mastodon-sidekiq@.service",)), record)
    done = commands(steps)
    assert steps[-1].kind == "done"
    assert done.count(f"systemctl enable {SCHEDULER}") == 1
    assert any(line.startswith("rm -f ") and "mastodon-sidekiq@.service.d/40-fleetd.conf" in line for line in done)
    back = f"mv /var/lib/mastodon-sidekiq/before-fleetd/mastodon-sidekiq@.service {file}"
    assert done.index(f"systemctl stop {INSTANCE.name}") < done.index(back)
    assert done.index(back) < done.index("systemctl enable mastodon-sidekiq@default.service")


def test_back_to_what_ran_and_what_a_boot_started_which_may_differ() -> None:
    record = Record(enabled=(PUSH.name,), active=(STOCK.name,))
    done = commands(steps_of(replace(RUNNING, old=()), record))
    assert f"systemctl enable {PUSH.name}" in done
    assert f"systemctl start {PUSH.name}" not in done
    assert f"systemctl start {STOCK.name}" in done
    assert f"systemctl enable {STOCK.name}" not in done


def test_without_the_unit_of_before_nothing_of_ours_ends() -> None:
    step = next_step_back(replace(RUNNING, missing=(STOCK.name,)), BEFORE)
    assert (step.kind, step.commands) == ("stuck", ())


def test_only_files_that_are_still_put_aside_are_put_back() -> None:
    record = replace(BEFORE, moved=("/etc/systemd/system/mastodon-sidekiq@.service",))
    assert not any(line.startswith("mv ") for line in commands(steps_of(RUNNING, record)))


def test_without_a_record_there_is_no_way_back() -> None:
    assert next_step_back(RUNNING, Record()).kind == "stuck"


units = st.builds(
    WorkerUnit,
    name=st.sampled_from([STOCK.name, PUSH.name, "my worker.service"]),
    active=st.booleans(),
    enabled=st.booleans(),
    stop_seconds=st.sampled_from([0.0, 15.0, 60.0, float("inf")]),
    pid=st.sampled_from([0, 7]),
    loud_pids=st.sampled_from([(), (7,), (7, 8)]),
    busy_threads=st.integers(0, 3),
    quiet=st.booleans(),
    scheduler=st.booleans(),
)
sights = st.builds(
    Seen,
    old=st.lists(units, max_size=3, unique_by=lambda unit: unit.name).map(tuple),
    ours=st.sampled_from([(), (INSTANCE,), (INSTANCE, OURS)]),
    hiding=st.sampled_from([(), ("/etc/systemd/system/mastodon-sidekiq@.service",)]),
    rendered=st.booleans(),
    fleetd_active=st.booleans(),
    fleetd_enabled=st.booleans(),
    target_enabled=st.booleans(),
    answers=st.booleans(),
    wanted_instances=st.integers(0, 2),
    serving_instances=st.integers(0, 2),
    pins=st.sampled_from([(), ("scheduler",)]),
    aside=st.sampled_from([(), ("mastodon-sidekiq@.service",)]),
    scheduler_serves=st.booleans(),
    schedulers_elsewhere=st.integers(0, 1),
)


@given(sights)
def test_from_anywhere_it_ends_and_stops_only_what_is_quiet_and_idle(seen: Seen) -> None:
    steps = steps_of(seen)
    assert steps[-1].kind == "done"
    now = seen
    for step in steps:
        for unit in now.old:
            stopped = any(
                command.startswith("systemctl disable --now") and unit.name in command for command in step.commands
            )
            if stopped and unit.active:
                assert unit.beats
                assert unit.quiet
                assert unit.busy_threads == 0
                assert now.serving_instances >= now.wanted_instances
        now = step.then or now


@given(sights)
def test_on_the_way_back_there_are_never_two_schedulers(seen: Seen) -> None:
    now = seen
    for step in steps_of(seen, BEFORE):
        if any(command == "systemctl start mastodon-sidekiq.service" for command in step.commands):
            assert not any(unit.name == SCHEDULER and unit.active for unit in now.ours)
            assert not now.fleetd_active
        now = step.then or now


class Script:
    """Steps as they come, and a clock that only moves while the runner sleeps."""

    def __init__(self, *steps: NextStep) -> None:
        self.steps = list(steps)
        self.now = 0.0
        self.told: list[str] = []
        self.ran: list[str] = []

    def run(self) -> NextStep:
        return Runner(
            lambda: self.steps.pop(0) if len(self.steps) > 1 else self.steps[0],
            lambda step: self.told.append(step.says),
            self.ran.append,
            monotonic=lambda: self.now,
            sleep=self.sleep,
        ).run()

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_step_is_not_done_twice_before_its_effect_can_be_seen() -> None:
    quiet = NextStep(kind="do", says="quiet", commands=("kill",))
    script = Script(*[quiet] * 5, NextStep(kind="done", says="there"))
    assert script.run().kind == "done"
    assert script.ran == ["kill"]
    late = Script(*[quiet] * 20, NextStep(kind="done", says="there"))
    late.run()
    assert len(late.ran) == 1 + int(late.now // AGAIN_SECONDS)


def test_a_step_without_effect_is_given_up() -> None:
    script = Script(NextStep(kind="do", says="quiet", commands=("kill",)))
    last = script.run()
    assert last.kind == "stuck"
    assert "kill" in last.says
    assert script.ran == ["kill"] * REPEATS_MAX


def test_what_is_waited_for_is_said_again_only_if_it_changed_and_not_all_the_time() -> None:
    waits = [NextStep(kind="wait", says=f"{jobs} jobs") for jobs in (*[9] * 8, *range(8, 0, -1))]
    script = Script(*waits, NextStep(kind="done", says="there"))
    script.run()
    assert script.told == ["9 jobs", "8 jobs", "3 jobs"]


def test_a_command_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(FleetdError, match=r"`echo no >&2; exit 3` failed: no\. Run this again"):
        perform("echo no >&2; exit 3")


def test_what_was_found_is_kept_for_the_way_back(tmp_path: Path) -> None:
    file = tmp_path / "migration.json"
    record = record_of(FRESH, load_record(file))
    assert record == BEFORE
    save_record(record, file)
    gone = replace(FRESH, old=())
    assert record_of(gone, load_record(file)) == BEFORE
    file.write_text("{")
    assert load_record(file) == Record()
    forget_record(file)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FleetdError, match="the way back needs it"):
        save_record(BEFORE, tmp_path / "none" / "migration.json")


def test_one_migration_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with one_at_a_time(file), pytest.raises(FleetdError, match="another"), one_at_a_time(file):
        pass
    with one_at_a_time(file):
        pass
    assert not file.exists()


def test_a_fleetd_that_is_to_observe_only_is_not_migrated_to() -> None:
    [only] = steps_of(replace(FRESH, observes="/etc/fleetd/fleetd.toml"))
    assert (only.kind, only.commands) == ("stuck", ())
    assert 'in /etc/fleetd/fleetd.toml, set mode = "act" under [fleet]' in only.says


def test_the_way_back_needs_no_fleetd_that_acts() -> None:
    steps = steps_of(replace(RUNNING, observes="/etc/fleetd/fleetd.toml", daemon_observes=True), BEFORE)
    assert steps[-1].kind == "done"


def test_a_fleetd_that_was_told_to_act_since_it_read_its_configuration_reads_it_again() -> None:
    watching = replace(
        FRESH, rendered=True, fleetd_active=True, fleetd_enabled=True, answers=True, daemon_observes=True
    )
    assert commands(steps_of(watching))[0] == "systemctl reload fleetd"
