"""What becomes of a rider that raises. Its commands on a real Redis: tests/adapters/sidekiq/test_rider.py."""

from __future__ import annotations

from typing import Any

import pytest

from fleetd.adapters.redis.rider import Ride


class Broken:
    def __init__(self, *broken: str) -> None:
        self._broken = broken
        self.heard: list[str] = []

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what in self._broken:
            raise KeyError(what)

    def commands(self) -> tuple[tuple[Any, ...], ...]:
        self._hear("commands")
        return (("PING",),)

    def take(self, replies: list[Any]) -> None:
        self._hear("take")

    def missed(self) -> None:
        self._hear("missed")


def test_a_bug_in_each_is_taken_and_the_reading_goes_on() -> None:
    rider, bugs = Broken("commands", "take", "missed"), list[str]()
    for arrives in (True, False):
        ride = Ride(rider, lambda what, error: bugs.append(f"{what}: {error}"))
        assert ride.commands() == ()
        if arrives:
            ride.arrived([])
        ride.end()
    assert rider.heard == ["commands", "take", "commands", "missed"]
    assert bugs == [f"what travels with a reading of Redis: '{call}'" for call in rider.heard]


@pytest.mark.parametrize("call", ["commands", "take", "missed"])
def test_without_whoever_takes_bugs_they_are_raised(call: str) -> None:
    ride = Ride(Broken(call))
    with pytest.raises(KeyError):  # noqa: PT012
        ride.commands()
        if call == "take":
            ride.arrived([])
        ride.end()


def test_a_rider_hears_of_the_end_once() -> None:
    rider = Broken()
    ride = Ride(rider)
    ride.arrived(["PONG"])
    ride.end()
    assert rider.heard == ["take"]
