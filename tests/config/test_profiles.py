"""Profiles as admins write them."""

import pytest

from fleetd.config import parse
from fleetd.config.profiles import MASTODON_WEIGHTS, parse_numbers
from fleetd.core.model.policy_tables import Profile
from tests.support.builders.config import problems


def profile(body: str, name: str = "a") -> Profile:
    return parse(f"[profiles.{name}]\n{body}").policy.profiles[0]


@pytest.mark.parametrize(
    ("body", "order", "queues"),
    [
        ("", "strict", ["default", "push", "ingress", "mailers", "pull", "fasp"]),
        ('order = "push-first"', "strict", ["push", "default", "ingress", "mailers", "pull", "fasp"]),
        ('order = "fasp-first"', "strict", ["fasp", "default", "push", "ingress", "mailers", "pull"]),
        ('queues = ["pull", "default"]', "strict", ["pull", "default"]),
        ('order = "strict"\nqueues = ["mailers"]', "strict", ["mailers"]),
    ],
)
def test_strict_orders(body: str, order: str, queues: list[str]) -> None:
    got = profile(f"instances = [1]\n{body}")
    assert got.order == order
    assert got.queues == tuple((queue, 1) for queue in queues)


def test_weighted_orders() -> None:
    assert profile('instances = [1]\norder = "weighted"').queues == tuple(MASTODON_WEIGHTS.items())
    own = profile("instances = [1]\nweights = {push = 4, default = 2}")
    assert (own.order, own.queues) == ("weighted", (("push", 4), ("default", 2)))


@pytest.mark.parametrize(
    "body",
    ['order = "scheduler-first"', 'queues = ["default", "scheduler"]', "weights = {scheduler = 1}"],
)
def test_no_profile_serves_the_scheduler_queue(body: str) -> None:
    """Law 1: only the scheduler's own unit serves that queue."""
    assert any("enqueue every cron job twice" in s for s in problems(f"[profiles.a]\ninstances = [1]\n{body}").values())


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ("", "instances", "missing"),
        ("instances = 1.5", "instances", "1.5 is not"),
        ('instances = "1-"', "instances", "not a number or a range"),
        ("instances = [1]\norder = 'strict'", "queues", "needs the queues"),
        ("instances = [1]\norder = 'weighted'\nqueues = ['pull']", "queues", "takes no queues"),
        ("instances = [1]\norder = 'push-first'\nweights = {pull = 1}", "weights", "takes no weights"),
        ("instances = [1]\nweights = {}", "weights", "empty"),
        ("instances = [1]\nqueues = []", "queues", "is not a list"),
        ("instances = [1]\nqueues = ['pull', 'pull']", "queues", "twice"),
        ("instances = [1]\nqueues = ['pull -q scheduler']", "queues[0]", "is not a queue name"),
        ("instances = [1]\nweights = {'pull -q scheduler' = 1}", "weights", "is not a queue name"),
        ("instances = [1]\nqueues = ['pull\\nX=1']", "queues[0]", ""),
        ("instances = [1]\nqueues = ['pull', 3, 'a b']", "queues[2]", "is not a queue name"),
        ("instances = [1]\ndb_pool = 24", "db_pool", "less than threads = 25"),
        ("instances = [1]\nmax = 2", "max", "more than the 1 number"),
        ('instances = "1-4"\nmin = 3\nmax = 2', "min", "more than max = 2"),
        ('instances = "1-9999"', "instances", "at most 64"),
    ],
)
def test_problems_of_a_profile(body: str, path: str, says: str) -> None:
    got = problems(f"[profiles.a]\n{body.replace(chr(39), chr(34))}")
    assert says in got[f"profiles.a.{path}"]


def test_a_number_belongs_to_one_profile() -> None:
    got = problems('[profiles.a]\ninstances = "1-3"\n[profiles.b]\ninstances = [3, 4]')
    assert "3 already belong(s) to profile a" in got["profiles.b.instances"]


@pytest.mark.parametrize("name", ["scheduler", '"Bad Name"', '""', f'"{"x" * 33}"', '"a\\nb"', '"ä"'])
def test_names_that_a_metric_label_or_unit_file_cannot_take(name: str) -> None:
    assert any(path.startswith("profiles.") for path in problems(f"[profiles.{name}]\ninstances = [1]"))


def test_min_may_be_0() -> None:
    got = profile('instances = "1-4"\nmax = 0')
    assert (got.min_instances, got.max_instances) == (0, 0)
    assert profile('instances = "1-4"\nmin = 0').min_instances == 0


@pytest.mark.parametrize(
    ("value", "numbers"),
    [("4-4", (4,)), ("1-3", (1, 2, 3)), ("7, 1 - 3", (1, 2, 3, 7)), ((9, 2), (2, 9)), ((9999,), (9999,))],
)
def test_instance_numbers(value: str | tuple[int, ...], numbers: tuple[int, ...]) -> None:
    assert parse_numbers(value) == numbers


@pytest.mark.parametrize("number", ["4", '"4"', '" 04 "'])
def test_a_lone_number_is_refused_with_both_things_it_could_mean(number: str) -> None:
    got = problems(f'[profiles.a]\ninstances = {number}\nmin = 2\n[profiles.b]\ninstances = "1-2"\n[http]\nlisten = 1')
    said = got["profiles.a.instances"]
    assert 'for 4 instances: "1-4"' in said
    assert "mastodon-sidekiq@4 alone: [4]" in said
    assert got.keys() == {"profiles.a.instances", "http.listen"}
    for written in ('"1-4"', "[4]"):
        assert profile(f"instances = {written}").numbers[-1] == 4


@pytest.mark.parametrize("written", ["1", '"1"'])
def test_one_is_the_same_as_a_number_and_as_a_count(written: str) -> None:
    assert profile(f"instances = {written}").numbers == (1,)


@pytest.mark.parametrize("number", [65, 9999])
def test_a_lone_number_that_can_be_no_count_but_one_names_that_number_only(number: int) -> None:
    said = problems(f"[profiles.a]\ninstances = {number}")["profiles.a.instances"]
    assert f"Write, for mastodon-sidekiq@{number} alone: [{number}]." in said


@pytest.mark.parametrize("number", [0, -1, 10000])
def test_a_number_that_no_instance_has(number: int) -> None:
    assert "from 1 to 9999" in problems(f"[profiles.a]\ninstances = {number}")["profiles.a.instances"]


@pytest.mark.parametrize("value", ["", "3-1", "0-2", "1,,2", "1-3,2", (), (1, 1), "١"])
def test_invalid_instance_numbers(value: str | tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        parse_numbers(value)
