"""The hosts of a trace: every key, every problem, and the policy of each host's fleetd."""

from __future__ import annotations

import pytest

from fleetd.config import parse
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.hosts import HOSTS_MAX, outages_of, policies_of
from fleetd.simulate.trace.text import trace_text
from fleetd.simulate.trace.trace import Trace, configured, parse_trace
from tests.support.builders.traces import queue_toml

HEAD = 'name = "fleet"\nduration_seconds = 600\ninitial_instances = 2\n'
QUEUES = queue_toml("default", "[[0, 10]]") + queue_toml("pull", "[[0, 1]]")
PROFILES = """
[profiles.local]
queues = ["default"]
instances = 6
min = 1
[profiles.pull]
queues = ["pull"]
instances = 3
min = 1
"""
HOSTS = """
[[hosts]]
name = "w1"
cores = 8
memory_bytes = 16e9
place = "here"
lost = [[100, 200], [300, 9000]]
cut_off = [[210, 220]]
[[hosts]]
name = "w2"
place = "elsewhere"
initial_instances = 1
profiles = { local = { instances = 4, min = 0 } }
frozen = [[100, 110]]
"""


def fleet(hosts: str = HOSTS, profiles: str = PROFILES) -> Trace:
    return parse_trace(HEAD + QUEUES + profiles + hosts)


def test_every_key_is_read() -> None:
    w1, w2 = fleet().hosts
    assert (w1.cores, w1.memory_bytes, w1.place, w1.initial_instances) == (8, 16e9, "here", None)
    assert (w2.cores, w2.memory_bytes, w2.place, w2.initial_instances) == (4, None, "elsewhere", 1)
    assert [(o.kind, o.at, o.until) for o in outages_of(w1)] == [
        ("lost", 100, 200),
        ("cut_off", 210, 220),
        ("lost", 300, 9000),
    ]


def test_each_host_has_a_policy_of_its_own() -> None:
    trace = fleet()
    w1, w2 = policies_of(trace.hosts, policy_of(trace, None))
    assert (w1.host, w1.scheduler.place, w2.host, w2.scheduler.place) == ("w1", "here", "w2", "elsewhere")
    assert [(p.name, p.numbers, p.min_instances, p.max_instances) for p in w1.profiles] == [
        ("local", (1, 2, 3, 4, 5, 6), 1, 6),
        ("pull", (7, 8, 9), 1, 3),
    ]
    assert [(p.name, p.numbers, p.min_instances, p.max_instances) for p in w2.profiles] == [
        ("local", (1, 2, 3, 4), 0, 4)
    ]


def test_a_configuration_gives_its_profiles_and_its_takeover_to_every_host() -> None:
    toml = '[scheduler]\nplace = "here"\ntakeover_seconds = 90\n[profiles.local]\nqueues = ["default", "pull"]\n'
    settings = parse(toml + 'instances = "1-4"\nmin = 1\nmax = 3\n', "fleetd.toml")
    problems: list[ConfigProblem] = []
    configured(fleet(HOSTS, ""), settings.policy, settings.profiles_without_min, problems)
    assert [(p.path, p.what) for p in problems] == [
        ("hosts[1].profiles.local.instances", "4 is more than the profile's 3")
    ]
    trace, problems = fleet(HOSTS.replace("instances = 4", "instances = 2"), ""), []
    policy = configured(trace, settings.policy, settings.profiles_without_min, problems)
    assert not problems
    w1, w2 = policies_of(trace.hosts, policy_of(trace, policy))
    assert (w1.scheduler.place, w2.scheduler.place) == ("here", "elsewhere")
    assert w1.scheduler.takeover_seconds == w2.scheduler.takeover_seconds == 90
    assert [h.profiles[0].max_instances for h in (w1, w2)] == [3, 2]


def test_what_is_written_reads_back_the_same() -> None:
    assert parse_trace(trace_text(fleet())) == fleet()
    assert "[[hosts]]" not in trace_text(fleet(""))


@pytest.mark.parametrize(
    ("change", "instead", "path", "says"),
    [
        ('name = "w2"', 'name = "w1"', "hosts[1].name", "hosts[0] is called w1 as well"),
        ('name = "w2"', 'name = "w 2"', "hosts[1].name", "letters, digits"),
        ('name = "w2"', "", "hosts[1]", "lacks name"),
        ("cores = 8", "cores = 0", "hosts[0].cores", "0 is not a whole number from 1"),
        ("cores = 8", "core = 8", "hosts[0].core", "Did you mean hosts[0].cores?"),
        ('"elsewhere"', '"there"', "hosts[1].place", '"there" is not one of "auto"'),
        ("local = {", "locl = {", "hosts[1].profiles.locl", "Did you mean local?"),
        ("instances = 4", "instances = 7", "hosts[1].profiles.local.instances", "7 is more than the profile's 6"),
        ("min = 0 }", "min = 5 }", "hosts[1].profiles.local.min", "5 is more than its 4 instances"),
        ("initial_instances = 1", "initial_instances = 5", "hosts[1].initial_instances", "more than local has here: 4"),
        ("[[100, 110]]", "[[110, 100]]", "hosts[1].frozen[0]", "at least 1 s apart"),
        ("[[100, 110]]", "[[600, 700]]", "hosts[1].frozen[0]", "not before the end of the trace"),
        ("[[100, 110]]", "[100, 110]", "hosts[1].frozen[0]", "100 is not [from, until]"),
        ("[[210, 220]]", "[[190, 220]]", "hosts[0].cut_off[0]", "within hosts[0].lost[0] (until 200 s)"),
        ("[[210, 220]]", "[[210, 301]]", "hosts[0].lost[1]", "within hosts[0].cut_off[0] (until 301 s)"),
        ('place = "here"', "profiles = { local = {} }", "queues.pull", "no profile serves this queue"),
        ("[[hosts]]", '[[hosts]]\nname = "x"\n' * HOSTS_MAX + "[[hosts]]", "hosts", "18 hosts"),
    ],
)
def test_problems_are_reported_with_path_and_cure(change: str, instead: str, path: str, says: str) -> None:
    assert change in HOSTS
    with pytest.raises(ConfigError) as raised:
        fleet(HOSTS.replace(change, instead, 1))
    assert f"  {path}: " in str(raised.value)
    assert says in str(raised.value)


def test_all_problems_of_all_hosts_are_reported_together() -> None:
    wrong = HOSTS.replace("cores = 8", "cores = 0").replace("[[100, 110]]", "[[110, 100]]").replace("w2", "w1")
    with pytest.raises(ConfigError) as raised:
        fleet(wrong.replace("instances = 4", "instances = 7"))
    found = {problem.path for problem in raised.value.problems}
    assert {"hosts[0].cores", "hosts[1].name", "hosts[1].frozen[0]", "hosts[1].profiles.local.instances"} <= found
