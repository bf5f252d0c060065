"""Every reason has a sentence, whatever its numbers are. Nothing else has one."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator
from itertools import islice, product
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest

from fleetd.core.model import reasons
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.words import reasons as words
from fleetd.words.formatting import span
from fleetd.words.reasons import sentence

#: At most this many combinations of a reason's fields are tried.
PLAIN: dict[Any, tuple[Any, ...]] = {
    str: ("default",),
    int: (1, 7),
    float: (0.0, 90.5),
    bool: (True, False),
    type(None): (None,),
    InstanceKey: (InstanceKey(3), SCHEDULER),
}
COMBINATIONS_MAX = 64


def kinds() -> list[type[reasons.Reason]]:
    """All reasons, except those that are only bases of others."""

    def below(kind: type[reasons.Reason]) -> Iterator[type[reasons.Reason]]:
        for child in kind.__subclasses__():
            if child is not reasons.ClampReason and child.__module__.startswith(reasons.__name__):
                yield child
            yield from below(child)

    return sorted(below(reasons.Reason), key=lambda kind: kind.__name__)


def samples(hint: Any) -> tuple[Any, ...]:
    """Values of a field's type, one for each form that it can have."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return tuple(value for argument in arguments for value in samples(argument)[:1])
    if origin is Literal:
        return arguments
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        items = samples(arguments[0])
        return (items[:1], items)
    if origin is tuple:
        return (tuple(samples(argument)[0] for argument in arguments),)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return tuple(hint)
    if isinstance(hint, type) and issubclass(hint, Value):
        if hint in (reasons.Reason, reasons.ClampReason):
            return (reasons.AtMax(max_instances=4),)
        return tuple(islice(made(hint), 1))
    raise AssertionError(f"no samples of {hint}")


def made(kind: type[Value]) -> Iterator[Any]:
    """A reason with the combinations of its fields' samples, up to a limit."""
    fields = msgspec.structs.fields(kind)
    for values in islice(product(*(samples(field.type) for field in fields)), COMBINATIONS_MAX):
        yield kind(**dict(zip((field.name for field in fields), values, strict=True)))


def test_there_are_reasons() -> None:
    assert len(kinds()) > 100


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_reason_has_a_sentence_whatever_its_values(kind: type[reasons.Reason]) -> None:
    for reason in made(kind):
        said = sentence(reason)
        assert said
        assert said.isprintable()
        assert not set(said) & set("{}<>"), "a value that is written as Python writes it"
        assert "None" not in said.split()
        assert said == said.strip()


def test_nothing_else_has_a_sentence() -> None:
    assert set(words._SENTENCES) == set(kinds())


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_sentence_can_stand_after_a_colon_but_an_answer_stands_alone(kind: type[reasons.Reason]) -> None:
    answers = kind in get_args(reasons.Reply)
    for reason in made(kind):
        assert sentence(reason).endswith(".") == answers


@pytest.mark.parametrize("kind", [k for k in kinds() if issubclass(k, reasons.ClampReason)], ids=lambda k: k.__name__)
def test_every_clamp_reason_has_a_code(kind: type[reasons.ClampReason]) -> None:
    assert kind.code in reasons.ClampCode


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
        (86_400, "24.0 h"),
        (172_800, "2.0 days"),
    ],
)
def test_a_length_of_time_is_written_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_headroom_that_is_unknown_names_each_source_by_its_name() -> None:
    unread = (
        reasons.UnreadSource(source="replica", why="no answer"),
        reasons.UnreadSource(source="pgbouncer", why="it refuses"),
    )
    said = sentence(reasons.HeadroomUnknown(unread=unread))
    assert "the replica can't be read: no answer; PgBouncer can't be read: it refuses" in said


def test_a_command_to_be_pasted_holds_no_command_of_somebody_elses() -> None:
    said = sentence(reasons.GhostHeartbeats(count=1, identities=("a;reboot",), still_seconds=90.0))
    assert "redis-cli SREM processes 'a;reboot'`" in said
    assert "redis-cli DEL 'a;reboot' 'a;reboot:work'`" in said


def test_what_a_rollout_waits_for_is_in_the_plural_where_it_is_many() -> None:
    one, two = (InstanceKey(2),), (InstanceKey(2), InstanceKey(5))
    assert sentence(reasons.ReplacementBoots(keys=one)) == "waits until @2 is up"
    assert sentence(reasons.ReplacementBoots(keys=two)) == "waits until @2, @5 are up"
    assert sentence(reasons.SettlesFirst(keys=two, what="drains")) == "waits until @2, @5 have drained"
