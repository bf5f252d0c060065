"""The configuration file: all problems are listed with path, value and cure, without secrets or other errors."""

import contextlib
import json
import math
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetd.config import HttpAddress, load, parse
from fleetd.config.access_tables import File
from fleetd.core.model.policy_tables import PacePolicy, Policy
from fleetd.errors import ConfigError
from tests.support.builders.config import PROFILE, problems


def policy(text: str) -> Policy:
    return parse(text, machine_host="worker1").policy


def test_a_profile_is_all_that_is_needed() -> None:
    got = parse(PROFILE, machine_host="worker1")
    assert got.policy.host == "worker1"
    profile = got.policy.profiles[0]
    assert (profile.numbers, profile.min_instances, profile.max_instances) == ((1, 2, 3, 4), 1, 4)
    assert (profile.threads, profile.db_pool, profile.claim_connections) == (25, 27, 27)
    assert got.redis is None
    assert got.postgres is None
    assert got.http == HttpAddress(host="127.0.0.1", port=9849)


def test_all_problems_are_listed_together() -> None:
    got = problems(
        '[fleet]\nhots = "x"\n[scheduler]\nplace = "there"\n[http]\nlisten = "9849"\n[memory]\nreserve = "5 GB"\n'
        '[profiles.push-first]\norder = "push-frist"\ninstances = "1-6"\nmin = 7\nthreads = 500\n'
        '[targets]\npush = "x"\n'
    )
    assert set(got) == {
        "fleet.hots",
        "scheduler.place",
        "http.listen",
        "memory.reserve",
        "profiles.push-first.order",
        "profiles.push-first.min",
        "profiles.push-first.threads",
        "targets.push",
    }
    assert "500 is not a whole number from 1 to 200" in got["profiles.push-first.threads"]
    assert "Did you mean fleet.host?" in got["fleet.hots"]
    assert 'Did you mean "push-first"?' in got["profiles.push-first.order"]


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "profiles", "nothing to run"),
        ("profiles = 3", "profiles", "table"),
        ('redis = "redis://:geheim@h"', "redis", "table"),
        (PROFILE + "[sate]", "sate", "Did you mean state?"),
        (PROFILE + "[zzz]", "zzz", "The file knows: scheduler, connections,"),
        (PROFILE + "[pace]\nqqq = 1", "pace.qqq", "[pace] knows: tick_seconds,"),
        (PROFILE + "[pace]\ntick_seconds = true", "pace.tick_seconds", "true is not a number from 1 to 60"),
        (PROFILE + "[pace]\ntick_seconds = nan", "pace.tick_seconds", "nan is not"),
        (PROFILE + "[pace]\nhold_down_seconds = inf", "pace.hold_down_seconds", "inf is not"),
        (PROFILE + "[pace]\nstarts_per_tick = 1.5", "pace.starts_per_tick", "1.5 is not a whole number"),
        (PROFILE + "[scheduler]\ntakeover_seconds = 30", "scheduler.takeover_seconds", "from 60"),
        (PROFILE + '[scheduler]\nqueues = ["pull"]', "scheduler.queues", "no cron job would ever run"),
        (PROFILE + '[scheduler]\nqueues = ["scheduler", "scheduler"]', "scheduler.queues", "twice"),
        (PROFILE + "[scheduler]\ndb_pool = 4", "scheduler.db_pool", "less than threads = 10"),
        (PROFILE + '[fleet]\nhost = "a b"', "fleet.host", "letters, digits"),
        (
            PROFILE + '[connections]\nclaims = [{name = "web"}]',
            "connections.claims[0]",
            "lacks connections",
        ),
        (PROFILE + "[connections]\nclaims = 3", "connections.claims", "not a list"),
        (
            PROFILE + '[connections]\nthrough = "pgcat"',
            "connections.through",
            'one of "auto", "pgbouncer", "postgres"',
        ),
        (PROFILE + '[connections]\nreplica = "no"', "connections.replica", 'one of "auto", "none"'),
        (PROFILE + "[connections]\nclaims = [3]", "connections.claims[0]", "table"),
        (PROFILE + "[connections]\nlimit = 40", "connections.limit", "leaves 30 connections"),
        (PROFILE + "[memory]\ninstance = -1", "memory.instance", "from 0 to 64 TiB"),
        (PROFILE + '[http]\nlisten = "localhost:0"', "http.listen", "not an address"),
        (PROFILE + '[http]\nlisten = "::1:9849"', "http.listen", "[::1]:9849"),
        (PROFILE + '[state]\ndirectory = "x"', "state.directory", "an absolute path"),
        (PROFILE + '[mastodon]\nenv_file = "/a:b"', "mastodon.env_file", "an absolute path"),
        ("x = ", "", "not TOML"),
        ("a = " + "[" * 5000, "", "nested too deeply"),
    ],
)
def test_a_problem_names_the_key_and_the_cure(text: str, path: str, says: str) -> None:
    got = problems(text)
    assert path in got
    assert says in got[path]


def test_a_host_name_that_does_not_fit_a_tag_is_refused() -> None:
    assert "Set fleet.host" in problems(PROFILE, host="müller's vm")["fleet.host"]
    assert parse(PROFILE + '[fleet]\nhost = "vm"', machine_host="müller's vm").policy.host == "vm"


def test_connection_claims_by_name_are_others() -> None:
    text = '[connections]\nothers = 5\nclaims = [{name = "web", connections = 120}, {name = "cron", connections = 4}]\n'
    assert policy(PROFILE + text).connections.declared_connections("database") == 129


def test_a_configured_limit_that_min_fits_into_is_accepted() -> None:
    # 1 × 27 for min, 12 for the scheduler, 10 in reserve
    assert policy(PROFILE + "[connections]\nlimit = 49").connections.limit == 49
    assert "connections.limit" in problems(PROFILE + "[connections]\nlimit = 48")
    text = PROFILE + '[connections]\nlimit = 37\n[scheduler]\nplace = "elsewhere"'
    assert policy(text).connections.limit == 37


def test_tables_of_the_policy_have_their_defaults_except_the_hosts_cores() -> None:
    pace = policy(PROFILE).pace
    assert pace == PacePolicy(booting_max=pace.booting_max)
    assert pace.booting_max == max(4, os.cpu_count() or 0)
    assert policy(PROFILE + "[pace]\ndrains_per_tick = 3").pace.drains_per_tick == 3


def test_sizes_as_people_write_them() -> None:
    memory = policy(PROFILE + '[memory]\nreserve = "1.5 GiB"\ninstance = 4096').memory
    assert (memory.reserve_bytes, memory.instance_bytes) == (1610612736, 4096)


def test_the_http_listener_can_be_off_or_elsewhere() -> None:
    assert parse(PROFILE + '[http]\nlisten = ""').http is None
    assert parse(PROFILE + '[http]\nlisten = "[::1]:80"').http == HttpAddress(host="::1", port=80)


def test_a_target_may_be_none() -> None:
    got = policy(PROFILE + '[targets]\npull = "none"\nfasp = 10\n')
    assert got.targets_seconds["pull"] is None
    assert got.target_seconds("pull") == math.inf
    assert (got.target_seconds("fasp"), got.target_seconds("default")) == (10.0, 5.0)
    again = msgspec.json.decode(msgspec.json.encode(got), type=Policy)
    assert again == got, "as in the history"
    wrong = problems(PROFILE + '[targets]\npull = "nome"\n')["targets.pull"]
    assert 'a number from 0.1 to 86400 or "none"' in wrong


def test_a_queue_behind_one_that_may_wait_for_ever_is_warned_of() -> None:
    queues = 'queues = ["default", "pull", "mailers"]'
    text = f'[profiles.a]\n{queues}\ninstances = [1]\n[targets]\npull = "none"\n'
    said = [w for w in parse(text).warnings if "for ever (target" in w]
    assert [w.split(", before ")[1].split(":")[0] for w in said] == ["mailers"]
    more = '[profiles.b]\nqueues = ["mailers"]\ninstances = [2]\n'
    assert not [w for w in parse(text.replace("[targets]", more + "[targets]")).warnings if "for ever (target" in w]


def test_warnings_refuse_nothing() -> None:
    got = parse('[profiles.a]\nqueues = ["default", "pushh"]\ninstances = [1]\n[targets]\nmailer = 5\n').warnings
    said = "\n".join(got)
    for queue in ("push", "ingress", "mailers", "pull", "fasp"):
        assert f"serves the queue {queue}:" in said
    assert "did you mean mailers?" in said
    assert "serves pushh, which stock Mastodon does not have (did you mean push?)" in said


def test_a_file_that_cannot_be_used_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'[log]\nlevel = "\xe4"')
    for path, says in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin", "line 2 is not UTF-8"),
        (Path("/dev/zero"), "larger than 1 MiB"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert says in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_pipe_that_nobody_writes_to_does_not_hold_fleetd_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="no profile"):
        load(pipe)


def test_a_pipe_that_somebody_writes_to_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, PROFILE.encode())
    os.close(writer)
    assert load(f"/dev/fd/{reader}").policy.profiles
    os.close(reader)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "fleetd.toml").write_text(PROFILE)
    assert load(tmp_path / "fleetd.toml") == parse(PROFILE)


_leaf = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=3),
)
_keys = sorted(
    {k for t in File.__struct_fields__ for k in (t, "url", "password", "instances", "order", "weights", "x y")}
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(_keys),
        st.one_of(_leaf, st.dictionaries(st.sampled_from(_keys), _leaf, max_size=4)),
        max_size=5,
    )
)
def test_nonsense_is_refused_with_a_sentence_and_raises_no_other_error(table: dict[str, Any]) -> None:
    rows = []
    for key, value in table.items():
        rows.append(f"{json.dumps(key)} = {_inline(value)}")
    text = "\n".join(rows)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        tomllib.loads(text)
        with contextlib.suppress(ConfigError):
            parse(text)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else str(value)


def test_the_bounds_of_history_are_given_in_days_and_sizes() -> None:
    kept = parse('[history]\ndays = 0\nsize = "1 GiB"\n[profiles.a]\ninstances = [1]\n')
    assert (kept.history.days, kept.history.size_bytes) == (0, 1024**3)
    for size, what in (
        ('"10 KiB"', "is not a size from 1 MiB to 16 GiB"),
        ('"1 MB"', "is not a size"),
        ('"99 GiB"', "is not a size from 1 MiB to 16 GiB"),
    ):
        with pytest.raises(ConfigError, match=f"history.size: .* {what}"):
            parse(f"[history]\nsize = {size}\n[profiles.a]\ninstances = [1]\n")
    with pytest.raises(ConfigError, match=r"history.days"):
        parse("[history]\ndays = -1\n[profiles.a]\ninstances = [1]\n")
