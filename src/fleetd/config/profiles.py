"""Queue profiles: from the words of the file to the core's values (law 1: none serves `scheduler`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fleetd.config.access_tables import PROFILES_MAX, ProfileSection
from fleetd.config.toml_reader import join, nearest, show
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import (
    CLAIM_MARGIN_CONNECTIONS,
    INSTANCES_MAX,
    QUEUES_BY_IMPORTANCE,
    SCHEDULER_QUEUE,
    Profile,
)
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE
from fleetd.errors import ConfigProblem

#: Mastodon's own weights (config/sidekiq.yml), for `order = "weighted"` without weights.
MASTODON_WEIGHTS = {"default": 8, "push": 6, "ingress": 4, "mailers": 2, "pull": 1, "fasp": 1}
ORDERS = (*(f"{queue}-first" for queue in QUEUES_BY_IMPORTANCE), "strict", "weighted")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_RANGE = re.compile(r"([0-9]{1,4})(?: ?- ?([0-9]{1,4}))?")
_NO_SCHEDULER = (
    "a profile can't serve the scheduler queue: two processes on it enqueue every cron job twice",
    "Leave it out; mastodon-sidekiq-scheduler.service serves it, once in the whole fleet (see [scheduler]).",
)


def build_profiles(sections: dict[str, ProfileSection], problems: list[ConfigProblem]) -> tuple[Profile, ...]:
    """The profiles in the order of the file; what is wrong goes to `problems`."""
    if len(sections) > PROFILES_MAX:
        problems.append(ConfigProblem("profiles", f"{len(sections)} profiles", f"Use at most {PROFILES_MAX}."))
    profiles = [_profile(name, section, problems) for name, section in sections.items()]
    _refuse_shared_numbers(profiles, problems)
    return tuple(profiles)


def _profile(name: str, section: ProfileSection, problems: list[ConfigProblem]) -> Profile:
    path = join("profiles", name)
    if name == SCHEDULER_PROFILE:
        cure = "Choose another name; the scheduler is configured under [scheduler]."
        problems.append(ConfigProblem(path, "this name is the scheduler unit's", cure))
    elif not _NAME.fullmatch(name):
        cure = "Use at most 32 of a-z, 0-9, _ and -, beginning with a letter or digit: the name becomes a metric label."
        problems.append(ConfigProblem(path, "not a name for a profile", cure))
    numbers = _numbers(section.instances, f"{path}.instances", problems)
    db_pool = section.db_pool if section.db_pool is not None else section.threads + CLAIM_MARGIN_CONNECTIONS
    check_pool(path, section.threads, db_pool, problems)
    low, high = _sizes(path, section, len(numbers), problems)
    return Profile(
        name=name,
        order="weighted" if _order(section) == "weighted" else "strict",
        queues=_queues(path, section, problems),
        threads=section.threads,
        db_pool=db_pool,
        numbers=tuple(map(InstanceKey, numbers)),
        min_instances=low,
        max_instances=high,
    )


def check_pool(path: str, threads: int, db_pool: int, problems: list[ConfigProblem]) -> None:
    """With fewer connections than threads jobs fail: ActiveRecord gives up waiting after 5 s."""
    if db_pool < threads:
        what = f"{db_pool} is less than threads = {threads}: threads would wait for a connection and jobs fail"
        problems.append(ConfigProblem(f"{path}.db_pool", what, f"Use {threads} or more, or lower threads."))


def _order(section: ProfileSection) -> str:
    """The order that is written or else follows from the other keys."""
    if section.order is not None:
        return section.order
    if section.weights is not None:
        return "weighted"
    return "strict" if section.queues is not None else "default-first"


def _queues(path: str, section: ProfileSection, problems: list[ConfigProblem]) -> tuple[tuple[str, int], ...]:
    order = _order(section)
    for key, misplaced in (
        ("weights", section.weights is not None and order != "weighted"),
        ("queues", section.queues is not None and order != "strict"),
    ):
        if misplaced:
            belongs = '"weighted"' if key == "weights" else '"strict"'
            cure = f"Remove it, or set order = {belongs}."
            problems.append(ConfigProblem(f"{path}.{key}", f"order = {show(order)} takes no {key}", cure))
    if order == "weighted":
        weights = MASTODON_WEIGHTS if section.weights is None else section.weights
        if not weights:
            problems.append(ConfigProblem(f"{path}.weights", "empty", "Name at least one queue."))
        _check_queue_names(f"{path}.weights", weights, problems)
        return tuple(weights.items())
    if order == "strict":
        queues = section.queues or ()
        if not queues:
            cure = 'List them, e.g. queues = ["push", "default"], or set order = "push-first".'
            problems.append(ConfigProblem(f"{path}.queues", 'order = "strict" needs the queues', cure))
        _check_queue_names(f"{path}.queues", queues, problems)
        return tuple((queue, 1) for queue in queues)
    return _queue_first(path, order, problems)


def _queue_first(path: str, order: str, problems: list[ConfigProblem]) -> tuple[tuple[str, int], ...]:
    first = order.removesuffix("-first")
    if first == SCHEDULER_QUEUE:
        problems.append(ConfigProblem(f"{path}.order", *_NO_SCHEDULER))
    elif order not in ORDERS:
        meant = nearest(order, ORDERS)
        cure = (f'Did you mean "{meant}"? ' if meant else "") + (
            f"Write one of {', '.join(ORDERS)}; for other queues list them under queues."
        )
        problems.append(ConfigProblem(f"{path}.order", f"{show(order)} is not an order", cure))
    rest = (queue for queue in QUEUES_BY_IMPORTANCE if queue != first)
    return tuple((queue, 1) for queue in (first, *rest))


def _check_queue_names(path: str, queues: Iterable[str], problems: list[ConfigProblem]) -> None:
    seen: set[str] = set()
    for queue in queues:
        if queue == SCHEDULER_QUEUE:
            problems.append(ConfigProblem(path, *_NO_SCHEDULER))
        elif queue in seen:
            cure = "Name it once; to serve it more often use weights."
            problems.append(ConfigProblem(path, f"{show(queue)} twice", cure))
        seen.add(queue)


def _numbers(value: int | str | tuple[int, ...] | None, path: str, problems: list[ConfigProblem]) -> tuple[int, ...]:
    """Ascending instance numbers from "1-6", "1-3,7" or [1, 2, 7]."""
    cure = 'Write the numbers N of mastodon-sidekiq@N that it owns here, from 1 to 9999: "1-6", "1-3,7" or [1, 2, 7].'
    if value is None:
        if not any(problem.path == path for problem in problems):
            problems.append(ConfigProblem(path, "missing", cure))
        return ()
    lone = None if isinstance(value, tuple) else _RANGE.fullmatch(str(value).strip())
    if lone is not None and lone[2] is None and int(lone[1]) > 1:  # of 1 both are the same
        what = f"{show(value)} could be one number or how many there are"
        problems.append(ConfigProblem(path, what, _meant(int(lone[1]))))
        return ()
    try:
        numbers = parse_numbers(str(value) if isinstance(value, int) else value)
    except ValueError as error:
        shown = show(list(value) if isinstance(value, tuple) else value)
        problems.append(ConfigProblem(path, f"{shown}: {error}", cure))
        return ()
    if len(numbers) > INSTANCES_MAX:
        what = f"{len(numbers)} instances"
        problems.append(ConfigProblem(path, what, f"Use at most {INSTANCES_MAX} per host."))
        return ()
    return numbers


def _meant(number: int) -> str:
    """Both things that a lone number may mean, as they are to be written."""
    one = f"mastodon-sidekiq@{number} alone: [{number}]"
    if not 1 < number <= INSTANCES_MAX:
        return f"Write, for {one}."
    return f'Write, for {number} instances: "1-{number}", or {number} others that no profile has; for {one}.'


def parse_numbers(value: str | tuple[int, ...]) -> tuple[int, ...]:
    """Ascending instance numbers. Raises ValueError, which says what can't be read."""
    parts = value.split(",") if isinstance(value, str) else list(map(str, value))
    numbers: list[int] = []
    for part in parts:
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{show(part.strip())} is not a number or a range")
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high:
            raise ValueError(f"{part.strip()} is not a range from 1 up")
        numbers.extend(range(low, high + 1))
    if len(set(numbers)) != len(numbers):
        raise ValueError("a number twice")
    if not numbers:
        raise ValueError("no number")
    return tuple(sorted(numbers))


def _sizes(path: str, section: ProfileSection, count: int, problems: list[ConfigProblem]) -> tuple[int, int]:
    """(min, max) instances; at most as many as there are numbers."""
    high = section.max if section.max is not None else count
    low = section.min if section.min is not None else min(1, high)
    if count and high > count:
        what = f"{high} is more than the {count} number(s) of instances"
        problems.append(ConfigProblem(f"{path}.max", what, f"Use at most {count}, or give the profile more numbers."))
    if low > high and (count or section.max is not None):
        what = f"{low} is more than max = {high}"
        problems.append(ConfigProblem(f"{path}.min", what, f"Use at most {high}, or raise max."))
    return low, high


def _refuse_shared_numbers(profiles: Iterable[Profile], problems: list[ConfigProblem]) -> None:
    owner: dict[int, str] = {}
    total = 0
    for profile in profiles:
        path = join("profiles", profile.name) + ".instances"
        shared = [number for number in profile.numbers if number in owner]
        total += len(profile.numbers)
        if shared:
            what = f"{', '.join(map(str, shared))} already belong(s) to profile {owner[shared[0]]}"
            problems.append(ConfigProblem(path, what, "A number says the profile: give each number to one profile."))
        owner.update(dict.fromkeys(profile.numbers, profile.name))
    if total > INSTANCES_MAX:
        problems.append(
            ConfigProblem("profiles", f"{total} instances in all", f"Use at most {INSTANCES_MAX} per host.")
        )
