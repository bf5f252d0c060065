"""What every Ledger promises. The one for a single host is in memory; the simulated hosts use the same one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fleetd.core.model.decision import Plan
from fleetd.ports import Ledger

LedgerCheck = Callable[[Ledger], Coroutine[Any, Any, None]]


def plan(epoch: int) -> Plan:
    return Plan(epoch=epoch, expires_at_seconds=100.0, profiles={}, claims_connections=0)


async def a_beat_takes_the_lease_and_finds_nothing(ledger: Ledger) -> None:
    view = await ledger.beat(1.0)
    assert view.token is not None
    assert (view.plan, view.fleet_memory) == (None, None)


async def what_is_committed_is_found_by_the_next_beat(ledger: Ledger) -> None:
    token = (await ledger.beat(1.0)).token
    assert token is not None
    assert await ledger.commit(plan(1), b"memory", token)
    view = await ledger.beat(2.0)
    assert (view.token, view.plan, view.fleet_memory) == (token, plan(1), b"memory")


async def an_epoch_that_does_not_grow_is_refused(ledger: Ledger) -> None:
    token = (await ledger.beat(1.0)).token
    assert token is not None
    assert await ledger.commit(plan(2), b"second", token)
    assert not await ledger.commit(plan(2), b"again", token)
    assert not await ledger.commit(plan(1), b"older", token)
    assert (await ledger.beat(2.0)).fleet_memory == b"second"


async def a_token_that_does_not_hold_is_refused(ledger: Ledger) -> None:
    token = (await ledger.beat(1.0)).token
    assert token is not None
    assert not await ledger.commit(plan(1), b"memory", token + 1)
    assert (await ledger.beat(2.0)).plan is None


ledger_contract: tuple[LedgerCheck, ...] = (
    a_beat_takes_the_lease_and_finds_nothing,
    what_is_committed_is_found_by_the_next_beat,
    an_epoch_that_does_not_grow_is_refused,
    a_token_that_does_not_hold_is_refused,
)
