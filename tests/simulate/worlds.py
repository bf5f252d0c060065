"""Traces for tests, short: only what a test is about."""

from __future__ import annotations

from fleetd.core.model.policy import Policy
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.trace import Trace, parse_trace
from fleetd.simulate.world.world import World

PROFILE = """
[profiles.local]
order = "strict"
queues = ["default", "push", "pull"]
threads = 10
instances = 6
min = 1
"""


def trace(body: str, *, seconds: int = 600, head: str = "", profile: str = PROFILE) -> Trace:
    """A trace whose queues are `body`."""
    return parse_trace(
        f'name = "test"\nduration_seconds = {seconds}\nboot_seconds = [10, 20]\n{head}\n'
        f"[targets]\n{body}{profile}"
        if "[targets]" not in body
        else f'name = "test"\nduration_seconds = {seconds}\nboot_seconds = [10, 20]\n{head}\n{body}{profile}'
    )


def queue(
    name: str, arrivals: str = "[]", mean: float = 0.2, *, sigma: float = 1.0, bursts: str = "[]"
) -> str:
    return (
        f"[queues.{name}]\narrivals_per_second = {arrivals}\nbursts = {bursts}\n"
        f"service_seconds = {{ mean = {mean}, sigma = {sigma} }}\n"
    )


def world(made: Trace) -> tuple[World, Policy]:
    rules = policy_of(made, None)
    return World(made, rules), rules
