"""Which units are as fleetd needs them: published ones, copies of ours, and drop-ins, each with the right answer."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.host.unit_syntax import unit_lines
from fleetd.core.model.facts import UnfitUnit, UnitRule
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.unit_rules.judge import unfit, unfit_of
from fleetd.core.model.unit_rules.text import UnitText
from fleetd.core.model.unit_rules.values import span_seconds
from tests.support.project import PROJECT

LIVE = "/home/mastodon/live"
ETC = f"/etc/systemd/system/{TEMPLATE_UNIT}"
DROP_IN = f"{ETC}.d/override.conf"
OURS = {unit: (PROJECT / "units" / unit).read_bytes() for unit in (TEMPLATE_UNIT, SCHEDULER_UNIT)}
BUNDLE = "/home/mastodon/.rbenv/shims/bundle exec sidekiq"
R = UnitRule


def judged(
    fragment: bytes, drop_in: str = "", *, unit: str = TEMPLATE_UNIT, directory: str | None = LIVE
) -> UnfitUnit | None:
    lines = (*unit_lines(fragment, ETC), *unit_lines(f"[Service]\n{drop_in}\n".encode(), DROP_IN))
    return unfit(UnitText(unit=unit, file=ETC, lines=lines), directory)


def rules(found: UnfitUnit | None) -> set[UnitRule]:
    return {fault.rule for fault in found.faults} if found is not None else set()


def edited(change: str, to: str = "") -> bytes:
    """Our template with one line changed, as `systemctl edit --full` leaves it."""
    text = OURS[TEMPLATE_UNIT].decode()
    assert text.count(change) == 1
    return text.replace(change, to).encode()


@pytest.mark.parametrize("unit", OURS)
def test_ours_is_fit_wherever_it_is(unit: str) -> None:
    assert judged(OURS[unit], unit=unit) is None


PUBLISHED = {
    "each queue its instance": f"ExecStart={BUNDLE} -c 25 -q %i\nType=simple\nTimeoutSec=15\nRestart=always",
    "threads by instance": f"ExecStart={BUNDLE} -c %i\nRestart=always",
    "settings by instance": (
        f"EnvironmentFile=/etc/mastodon/sidekiq-%i.env\nExecStart={BUNDLE} -c $THREADS $QUEUES\nRestart=always"
    ),
    "a shell that splits its name": (
        "Type=simple\nExecStart=/bin/bash -lc 'IFS=- read n q <<< %i; bundle exec sidekiq -q $q'\nRestart=on-failure"
    ),
    "notify, as Sidekiq's example": f"Type=notify\nWatchdogSec=10\nExecStart={BUNDLE}\nRestart=on-failure",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_unit_is_somebody_elses(name: str) -> None:
    found = judged(f"[Service]\nUser=mastodon\nWorkingDirectory={LIVE}\n{PUBLISHED[name]}\n".encode())
    assert found is not None
    assert found.foreign
    assert found.file == ETC
    assert {R.SETTINGS, R.ARGUMENTS} <= rules(found)


@pytest.mark.parametrize(
    "line",
    [
        "TimeoutStartSec=30min",
        "TimeoutStopSec=120",
        "TimeoutStopSec=infinity",
        "TimeoutStopSec=1min 30s",
        "TimeoutSec=5min",
        "Environment=MALLOC_ARENA_MAX=4",
        "Environment=SIDEKIQ_ARGS=-q default",  # EnvironmentFile= wins
        "MemoryMax=2G",
        "Nice=5",
        "LimitNOFILE=65536",
        "ExecReload=/bin/kill -TSTP $MAINPID",
        "OOMPolicy=stop",
        "OOMPolicy=",  # systemd ignores what it does not understand
        "Type=\nLimitCPU=\nKillMode=Mixed\nRestart=no # never\nType=\"simple\"",
        "WatchdogSec=soon",
        "RuntimeMaxSec=-5",
        "TimeoutStopSec=60 # seconds",
        "WorkingDirectory=relative/place",
        "KillSignal=term",
        "KillSignal=2",
        "EnvironmentFile=/etc/default/mastodon\nEnvironmentFile=/var/lib/mastodon-sidekiq/%i.env",
        "EnvironmentFile=\nEnvironmentFile=/var/lib/mastodon-sidekiq//%i.env",
        "ExecStop=/bin/kill -TERM $MAINPID",
        "ExecStop=-/bin/kill -s TSTP ${MAINPID}",
        "ExecStopPost=/usr/local/bin/tell-somebody",
        "RestartPreventExitStatus=",
        "ManagedOOMSwap=auto",
        "LimitCPU=infinity",
        "SystemCallErrorNumber=EACCES",
        "SystemCallFilter=\nSystemCallErrorNumber=kill",
        "[Unit]\nRequires=network.target home.mount",
        "[Unit]\nBindsTo=\nPartOf=mastodon.target\nConflicts=shutdown.target",
        "[Unit]\nStopWhenUnneeded=no\nKillMode=none\nType=simple",
        "KillMode=process",
        "KillSignal=SIGINT",
        "RuntimeMaxSec=1d",
        "RuntimeMaxSec=infinity",
        "WatchdogSec=0",
        "NotifyAccess=main",
        "RestartSec=30",
        "StartLimitBurst=100",
        "User=social",
        "SendSIGKILL=yes",
        f"WorkingDirectory={LIVE}/",
        f"ExecStart=\nExecStart={BUNDLE} $SIDEKIQ_ARGS",
        f"ExecStart=\nExecStart=/usr/bin/env RAILS_ENV=production {BUNDLE} -e production $SIDEKIQ_ARGS",
        f"ExecStart=\nExecStart={BUNDLE} $SIDEKIQ_ARGS -t 5",
        f"ExecStart=\nExecStart=/usr/bin/nice -n 5 /usr/bin/taskset -c 0-3 {BUNDLE} $SIDEKIQ_ARGS",
        "ExecStart=\nExecStart=/usr/local/bin/run-sidekiq $SIDEKIQ_ARGS",
        f"ExecStart=\nExecStart=/bin/bash -lc 'cd {LIVE} && exec bundle exec sidekiq $SIDEKIQ_ARGS'",
        "ExecStart=\nExecStart=/bin/sh -c 'if true; then exec bundle exec sidekiq ${SIDEKIQ_ARGS}; fi'",
        "ExecStart=\nExecStart=/bin/sh -c 'exec bundle exec sidekiq \"$@\"' sh $SIDEKIQ_ARGS",
        "ExecStart=\nExecStart=/bin/sh -c 'exec bundle exec sidekiq $SIDEKIQ_ARGS >>log/sidekiq.log 2>&1'",
        "ExecStart=\nExecStart=/bin/bash -o pipefail -c 'RAILS_ENV=production exec bundle exec sidekiq $SIDEKIQ_ARGS'",
        "ExecStart=\nExecStart=/bin/sh -c 'exec bundle exec sidekiq $$SIDEKIQ_ARGS || exit 1'",
        "ExecStart=\nExecStart=/usr/bin/zsh -c 'exec bundle exec sidekiq $@' zsh $SIDEKIQ_ARGS",
        "ExecStart=\nExecStart=-@/usr/bin/bundle mastodon exec sidekiq $SIDEKIQ_ARGS",
    ],
)  # fmt: skip
def test_this_drop_in_is_understood(line: str) -> None:
    assert judged(OURS[TEMPLATE_UNIT], line) is None


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("EnvironmentFile=", R.SETTINGS),
        ("EnvironmentFile=\nEnvironmentFile=/etc/default/mastodon", R.SETTINGS),
        ("EnvironmentFile=\nEnvironmentFile=-/var/lib/mastodon-sidekiq/%i.env", R.SETTINGS_OPTIONAL),
        ("EnvironmentFile=\nEnvironmentFile=/var/lib/mastodon-sidekiq/scheduler.env", R.SETTINGS),
        ("EnvironmentFile=/var/lib/mastodon-sidekiq/scheduler.env", R.SETTINGS),
        ("EnvironmentFile=/home/mastodon/live/.env.production", R.SETTINGS_LATER),
        ("EnvironmentFile=-/etc/default/%p", R.SETTINGS_LATER),
        (f"ExecStart={BUNDLE} $SIDEKIQ_ARGS", R.COMMANDS),
        ("ExecStart=", R.ARGUMENTS),
        (f"ExecStart=\nExecStart={BUNDLE}", R.ARGUMENTS),
        (f"ExecStart=\nExecStart={BUNDLE} ${{SIDEKIQ_ARGS}}", R.ARGUMENTS),
        (f"ExecStart=\nExecStart=:{BUNDLE} $SIDEKIQ_ARGS", R.ARGUMENTS),
        ("UnsetEnvironment=DB_POOL SIDEKIQ_ARGS", R.ARGUMENTS),
        (f"ExecStart=\nExecStart={BUNDLE} $SIDEKIQ_ARGS -q scheduler", R.OPTIONS),
        (f"ExecStart=\nExecStart={BUNDLE} $SIDEKIQ_ARGS -c 50", R.OPTIONS),
        (f"ExecStart=\nExecStart={BUNDLE} --timeout=60 $SIDEKIQ_ARGS", R.OPTIONS),
        (f"ExecStart=\nExecStart={BUNDLE} $SIDEKIQ_ARGS -t 60", R.OPTIONS),
        ("ExecStart=\nExecStart=/bin/sh -c 'exec sidekiq -gmine $SIDEKIQ_ARGS'", R.OPTIONS),
        ("ExecStart=\nExecStart=/bin/bash -lc 'bundle exec sidekiq $SIDEKIQ_ARGS'", R.SHELL),
        (f"ExecStart=\nExecStart=/bin/sh -c 'cd {LIVE} && bundle exec sidekiq $SIDEKIQ_ARGS'", R.SHELL),
        ("ExecStart=\nExecStart=/usr/bin/env bash -c 'bundle exec sidekiq ${SIDEKIQ_ARGS}'", R.SHELL),
        ("ExecStart=\nExecStart=/bin/sh -c 'exec >>log/sidekiq.log 2>&1; bundle exec sidekiq $SIDEKIQ_ARGS'", R.SHELL),
        ("ExecStart=\nExecStart=/bin/sh -c 'exec bundle exec sidekiq $SIDEKIQ_ARGS 2>&1 | tee log/x'", R.SHELL),
        ("ExecStart=\nExecStart=/bin/sh -c 'exec bundle exec sidekiq $SIDEKIQ_ARGS & wait'", R.SHELL),
        ("ExecStart=\nExecStart=/bin/sh -c '( exec bundle exec sidekiq $SIDEKIQ_ARGS )'", R.SHELL),
        ("ExecStart=\nExecStart=/bin/bash -lc 'exec bundle exec sidekiq \"$@\"' $SIDEKIQ_ARGS", R.ARGUMENTS),
        ("ExecStart=\nExecStart=/bin/bash -lc 'exec bundle exec sidekiq \"$*\"' bash $SIDEKIQ_ARGS", R.ARGUMENTS),
        ("ExecStart=\nExecStart=/bin/bash -lc 'exec bundle exec sidekiq \"$SIDEKIQ_ARGS\"'", R.ARGUMENTS),
        ("ExecStart=\nExecStart=/bin/bash -lc 'exec bundle exec sidekiq \"${SIDEKIQ_ARGS}\"'", R.ARGUMENTS),
        ("ExecStart=\nExecStart=/bin/sh -c 'SIDEKIQ_ARGS=-c5; exec bundle exec sidekiq $SIDEKIQ_ARGS'", R.ARGUMENTS),
        ("ExecStart=\nExecStart=/usr/bin/zsh -c 'exec bundle exec sidekiq $SIDEKIQ_ARGS'", R.ARGUMENTS),
        (f"ExecStart=\nExecStart=/usr/bin/setsid {BUNDLE} $SIDEKIQ_ARGS", R.BETWEEN),
        (f"ExecStart=\nExecStart=/usr/bin/sudo -u mastodon {BUNDLE} $SIDEKIQ_ARGS", R.BETWEEN),
        ("ExecStart=\nExecStart=/bin/sh -c 'exec timeout 1d bundle exec sidekiq $SIDEKIQ_ARGS'", R.BETWEEN),
        (f"ExecStart=\nExecStart=/usr/bin/dumb-init -- {BUNDLE} $SIDEKIQ_ARGS", R.BETWEEN),
        (f"ExecStart=\nExecStart=+{BUNDLE} $SIDEKIQ_ARGS", R.PRIVILEGES),
        (f"ExecStart=\nExecStart=!!{BUNDLE} $SIDEKIQ_ARGS", R.PRIVILEGES),
        ("Type=simple", R.TYPE),
        ("Type=exec", R.TYPE),
        ("Type=forking", R.TYPE),
        ("NotifyAccess=none", R.TYPE),
        ("ExecCondition=/usr/bin/test -e /run/go", R.CONDITION),
        ("KillMode=control-group", R.KILL_MODE),
        ("KillMode=none", R.KILL_MODE),
        ("KillMode=", R.KILL_MODE),
        ("KillSignal=SIGKILL", R.SIGNAL),
        ("KillSignal=SIGQUIT", R.SIGNAL),
        ("RestartKillSignal=9", R.SIGNAL),
        ("SendSIGHUP=yes", R.SIGNAL),
        ("SendSIGKILL=no", R.LEFT_OVER),
        ("SendSIGKILL=off", R.LEFT_OVER),
        ("RemainAfterExit=true", R.LEFT_OVER),
        ("TimeoutStopSec=25", R.STOP_TIMEOUT),
        ("TimeoutSec=15", R.STOP_TIMEOUT),
        ("TimeoutStopSec=39s", R.STOP_TIMEOUT),
        ("TimeoutStopSec=500ms", R.STOP_TIMEOUT),
        ("TimeoutStopSec=15\nTimeoutStopSec=60 # seconds", R.STOP_TIMEOUT),
        ("TimeoutStopSec=+15", R.STOP_TIMEOUT),
        ("TimeoutStopSec=.25min", R.STOP_TIMEOUT),
        ("ExecStop=/bin/kill -KILL $MAINPID", R.STOP_COMMAND),
        ("ExecStop=/usr/bin/pkill -f sidekiq", R.STOP_COMMAND),
        ("ExecStop=/home/mastodon/live/bin/bundle exec sidekiqctl stop", R.STOP_COMMAND),
        ("ExecStopPost=/usr/bin/killall ruby", R.STOP_COMMAND),
        ("ExecStopPost=/bin/sh -c 'pkill -f sidekiq'", R.STOP_COMMAND),
        ("ExecStartPre=-/usr/bin/pkill -f sidekiq", R.STOP_COMMAND),
        ("[Unit]\nPartOf=mastodon-web.service", R.DEPENDENCY),
        ("[Unit]\nStopPropagatedFrom=redis-server.service", R.DEPENDENCY),
        ("[Unit]\nConflicts=backup.service", R.DEPENDENCY),
        ("Restart=no", R.RESTART),
        ("RestartPreventExitStatus=1 SIGKILL", R.RESTART),
        ("ExitType=cgroup", R.LEFT_OVER),
        ("Restart=on-failure", R.RESTART),
        ("Restart=on-abnormal", R.RESTART),
        ("OOMPolicy=kill", R.OOM),
        ("OOMPolicy=kill\nOOMPolicy=", R.OOM),
        ("ManagedOOMMemoryPressure=kill", R.OOM),
        ("LimitCPU=3600", R.CPU_TIME),
        ("SystemCallErrorNumber=", R.SYSTEM_CALL),
        ("SystemCallErrorNumber=kill", R.SYSTEM_CALL),
        ("[Unit]\nRequires=redis-server.service", R.DEPENDENCY),
        ("[Unit]\nBindsTo=home.mount postgresql.service", R.DEPENDENCY),
        ("[Unit]\nStopWhenUnneeded=yes", R.NOT_STEERED),
        ("[Unit]\nRefuseManualStop=1\nRefuseManualStop=maybe", R.NOT_STEERED),
        ("WatchdogSec=10", R.WATCHDOG),
        ("WatchdogSec=30\nWatchdogSec=", R.WATCHDOG),
        ("WatchdogSec=2min", R.WATCHDOG),
        ("RuntimeMaxSec=10min", R.RUNTIME),
        ("RuntimeMaxSec=3599", R.RUNTIME),
        ("RuntimeMaxSec=10min\nRuntimeMaxSec=", R.RUNTIME),
        ("RuntimeMaxSec=.5h", R.RUNTIME),
        ("RuntimeMaxSec=10µs", R.RUNTIME),
        ("User=", R.USER),
        ("User=root", R.USER),
        ("User=%u", R.USER),
        ("WorkingDirectory=", R.DIRECTORY),
        ("WorkingDirectory=/srv/mastodon/current", R.DIRECTORY),
    ],
)  # fmt: skip
def test_this_drop_in_is_refused_and_blamed(line: str, rule: UnitRule) -> None:
    found = judged(OURS[TEMPLATE_UNIT], line)
    assert rules(found) == {rule}
    assert found is not None
    assert not found.foreign  # the unit file itself is ours
    assert {fault.file for fault in found.faults} == {DROP_IN}
    name = line.removeprefix("[Unit]\n").splitlines()[0].partition("=")[0]
    mended = found.faults[0].write.partition("=")[0]
    meant = {"TimeoutSec": "TimeoutStopSec", "Requires": "Wants", "BindsTo": "Wants"}
    meant |= dict.fromkeys(("PartOf", "StopPropagatedFrom", "Conflicts"), "After")
    assert mended == meant.get(name, name)


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("TimeoutStopSec=60", "TimeoutStopSec=90", set()),
        ("RestartSec=5", "RestartSec=20", set()),
        ("SystemCallArchitectures=native\n", "", set()),
        ("OOMPolicy=continue\n", "", set()),
        ("KillMode=mixed\n", "", {R.KILL_MODE}),
        ("Type=notify\n", "", {R.TYPE}),
        ("Restart=always\n", "", {R.RESTART}),
        ("SystemCallErrorNumber=EPERM\n", "", {R.SYSTEM_CALL}),
        ("User=mastodon\n", "", {R.USER}),
        ("EnvironmentFile=/var", "EnvironmentFile=-/var", {R.SETTINGS_OPTIONAL}),
        (" $SIDEKIQ_ARGS\n", "\n", {R.ARGUMENTS}),
    ],
)
def test_a_copy_of_ours_is_judged_by_what_was_changed(change: str, to: str, expected: set[UnitRule]) -> None:
    found = judged(edited(change, to))
    assert rules(found) == expected
    assert found is None or not found.foreign


def test_a_later_drop_in_can_mend_a_unit() -> None:
    assert judged(edited("KillMode=mixed", "KillMode=control-group"), "KillMode=mixed") is None
    assert rules(judged(OURS[TEMPLATE_UNIT], "Type=simple\nType=notify\n[Install]\nType=simple")) == set()


def test_what_a_command_says_is_not_repeated() -> None:
    """It may hold a password."""
    found = judged(OURS[TEMPLATE_UNIT], "ExecStart=\nExecStart=+/usr/bin/env DB_PASS=secret bundle exec sidekiq")
    assert found is not None
    assert "secret" not in repr(found)


def test_the_directory_is_compared_only_where_it_is_known() -> None:
    line = "WorkingDirectory=/srv/mastodon"
    assert judged(OURS[TEMPLATE_UNIT], line, directory=None) is None
    assert judged(OURS[TEMPLATE_UNIT], line, directory="/srv/mastodon") is None
    assert judged(OURS[TEMPLATE_UNIT], "WorkingDirectory=~") is None
    assert judged(OURS[TEMPLATE_UNIT], f"WorkingDirectory=/home//mastodon/./{LIVE[-4:]}/") is None
    assert judged(OURS[TEMPLATE_UNIT], "WorkingDirectory=/srv/100%%/live", directory="/srv/100%/live") is None


def test_two_names_of_a_directory_are_one() -> None:
    lines = unit_lines(OURS[TEMPLATE_UNIT] + b"\n[Service]\nWorkingDirectory=/opt/mastodon\n", ETC)
    text = UnitText(unit=TEMPLATE_UNIT, file=ETC, lines=lines)
    assert rules(unfit(text, LIVE)) == {R.DIRECTORY}
    assert unfit(text, LIVE, lambda one, other: {one, other} == {"/opt/mastodon", LIVE}) is None


def test_the_line_that_mends_has_this_hosts_user_and_command() -> None:
    rendered = "User=masto\nExecStart=\nExecStart=/srv/ruby/bin/bundle exec sidekiq $SIDEKIQ_ARGS\n"
    found = judged(OURS[TEMPLATE_UNIT], f"{rendered}User=root\nExecStart=\nExecStart=/srv/ruby/bin/bundle exec sidekiq")
    assert found is not None
    assert {fault.write for fault in found.faults} == {
        "User=masto",
        "ExecStart=/srv/ruby/bin/bundle exec sidekiq $SIDEKIQ_ARGS",
    }


def test_a_file_that_sets_nothing_of_ours_may_come_later() -> None:
    lines = unit_lines(OURS[TEMPLATE_UNIT] + b"\n[Service]\nEnvironmentFile=-/etc/default/x\n", ETC)
    text = UnitText(unit=TEMPLATE_UNIT, file=ETC, lines=lines, harmless=frozenset({"/etc/default/x"}))
    assert unfit(text, LIVE) is None


def test_an_unreadable_file_is_not_fit() -> None:
    found = unfit(UnitText(unit=TEMPLATE_UNIT, file=ETC, unreadable=(DROP_IN,)))
    assert found is not None
    assert [(f.rule, f.write) for f in found.faults] == [(R.UNREADABLE, f"chmod a+r {DROP_IN}")]
    closed = unfit(UnitText(unit=TEMPLATE_UNIT, file=ETC, closed=(f"{ETC}.d",)))
    assert closed is not None
    assert [(f.rule, f.write) for f in closed.faults] == [(R.UNREADABLE, f"chmod a+rx {ETC}.d")]


def test_a_single_instance_may_have_its_own_answer() -> None:
    one = "mastodon-sidekiq@3.service"
    found = judged(OURS[TEMPLATE_UNIT], "Type=simple", unit=one)
    assert found is not None
    assert unfit_of(InstanceKey(3), {one: found}) is found
    assert unfit_of(InstanceKey(4), {one: found}) is None
    assert unfit_of(InstanceKey(4), {TEMPLATE_UNIT: found}) is found
    assert unfit_of(InstanceKey(0), {TEMPLATE_UNIT: found}) is None
    literal = edited(
        "EnvironmentFile=/var/lib/mastodon-sidekiq/%i.env", "EnvironmentFile=/var/lib/mastodon-sidekiq/3.env"
    )
    assert judged(literal, unit=one) is None
    assert rules(judged(literal, unit="mastodon-sidekiq@4.service")) == {R.SETTINGS}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60.0),
        ("1min 30s", 90.0),
        ("1min30s", 90.0),
        ("2h", 7200.0),
        ("500ms", 0.5),
        ("1.5min", 90.0),
        ("infinity", math.inf),
        ("+15", 15.0),
        (".25min", 15.0),
        ("1min +5", 65.0),
        ("1µs", 1e-6),
        ("60 # seconds", None),
        ("-5", None),
        ("+.5min", None),
        ("", None),
        ("soon", None),
        ("5 parsecs", None),
    ],
)
def test_time_spans(text: str, seconds: float | None) -> None:
    assert span_seconds(text) == seconds


def test_a_command_that_may_hold_a_password_is_only_pointed_at() -> None:
    bare = OURS[TEMPLATE_UNIT]
    own = next(line for line in bare.decode().splitlines() if line.startswith("ExecStart="))
    secret = bare.replace(own.encode(), b"ExecStart=/usr/bin/env KEY=hunter2 bundle exec sidekiq $SIDEKIQ_ARGS")
    found = judged(secret, "ExecStart=\nExecStart=/usr/bin/sudo -u mastodon bundle exec sidekiq $SIDEKIQ_ARGS")
    assert found is not None
    assert "hunter2" not in repr(found)
    assert "the one that" in found.faults[0].write


@given(st.binary(max_size=300))
def test_no_file_breaks_it(content: bytes) -> None:
    found = judged(content)
    assert found is not None
    assert all(fault.write for fault in found.faults)


def test_the_page_has_every_rule_and_every_setting() -> None:
    page = (PROJECT / "docs/other-mastodons.md").read_text()
    table = page.partition("## Units that are somebody else's")[2]
    source = (PROJECT / "src/fleetd/core/model/unit_rules/judge.py").read_text().partition("class _Judged")[2]
    settings = set(re.findall(r'"([A-Z][a-z][A-Za-z]+|OOMPolicy)"', source)) - {"Service", "Unit", "Exec"}
    assert [name for name in settings if f"`{name}=" not in table and f"`{name}`" not in table] == []


ASKS = next(line for line in OURS[SCHEDULER_UNIT].decode().splitlines() if line.startswith("ExecCondition="))


@pytest.mark.parametrize(
    ("line", "fit"),
    [
        (ASKS, True),
        (ASKS.replace("/opt/fleetd/bin", "/usr/lib/fleetd/bin"), True),
        ("ExecCondition=", True),  # an admin's unit that does not ask
        (ASKS.replace("-ne 75", "-eq 0"), False),
        ("ExecCondition=/opt/fleetd/bin/fleetd-may-schedule", False),  # a program that is missing would refuse
        (f"{ASKS}\nExecCondition=/usr/bin/test -e /run/go", False),
    ],
)
def test_the_schedulers_unit_may_ask_as_ours_does(line: str, fit: bool) -> None:
    found = judged(OURS[SCHEDULER_UNIT], f"ExecCondition=\n{line}", unit=SCHEDULER_UNIT)
    assert rules(found) == (set() if fit else {R.CONDITION})


def test_an_instance_has_nothing_to_ask() -> None:
    assert rules(judged(OURS[TEMPLATE_UNIT], ASKS)) == {R.CONDITION}
