"""A person's order, given on this host: obeyed by it, or written to the ledger for every host that it concerns."""

from __future__ import annotations

from fleetd.core.asking import refusal_reason
from fleetd.core.fleet.calls import Code, Refusal
from fleetd.core.fleet.state import ORDERS_MAX
from fleetd.core.instances.orders import Order, Pause, Resume
from fleetd.core.model import reasons
from fleetd.core.model.person import Person
from fleetd.core.sharing.fleet_orders import (
    FleetSituation,
    LedgerChanges,
    OrderToFleet,
    PauseHost,
    ResumeHost,
    answered,
    to_fleet,
)
from fleetd.daemon.tick import Ticker
from fleetd.errors import OrderRefusedError, SourceUnavailableError
from fleetd.ports import Ledger
from fleetd.words.reasons import sentence


async def ordered(ticker: Ticker, order: Order, person: Person | None) -> reasons.Reply:
    """Obey a person between two ticks. Raises OrderRefusedError with the reason."""
    last, ledger = ticker.last, ticker.sources.ledger
    wide = None if last is None else to_fleet(order, last.tick)
    if wide is None or ledger is None:
        return ticker.order(order, person)
    try:
        changes = await _judged(ticker, ledger, wide, person)
        await _write(ledger, changes)
    except SourceUnavailableError as error:
        if _is_own(ticker, order):  # as on a single host: it needs no ledger
            return ticker.order(order, person)
        raise OrderRefusedError(_unreachable(order, ticker.policy.host, str(error))) from error
    return answered(changes, _obeyed_here(ticker, order, person, needed=not changes.writes))


async def _judged(ticker: Ticker, ledger: Ledger, order: OrderToFleet, person: Person | None) -> LedgerChanges:
    state = await ledger.read()
    if state is None or ticker.last is None:
        raise SourceUnavailableError("the fleet's ledger in Redis is empty; try again in a few seconds")
    now = ticker.sources.clock.now_seconds()
    return order.judge(FleetSituation(ticker.last.tick, ticker.host_memory, now, person, state))


async def _write(ledger: Ledger, changes: LedgerChanges) -> None:
    for about, text in changes.writes:
        _taken(await ledger.order(about, text))
    if changes.forget:
        _taken(await ledger.forget(changes.forget))


def _taken(refusal: Refusal | None) -> None:
    if refusal is not None and refusal.code == Code.FULL:
        raise OrderRefusedError(
            f"{ORDERS_MAX} orders are in force, and there is no room for more: end one that `fleetctl hosts` lists"
        )
    if refusal is not None:
        raise OrderRefusedError(sentence(refusal_reason(refusal, ())))


def _obeyed_here(ticker: Ticker, order: Order, person: Person | None, *, needed: bool) -> reasons.Reply | None:
    """What a resume ends on this host besides; None: nothing. `needed`: else it is refused, as it ended nothing."""
    if not isinstance(order, Resume) and not (isinstance(order, ResumeHost) and _is_own(ticker, order)):
        return None
    try:
        return ticker.order(order, person)
    except OrderRefusedError:
        if needed:
            raise
        return None


def _is_own(ticker: Ticker, order: Order) -> bool:
    return isinstance(order, PauseHost | ResumeHost) and order.host == ticker.policy.host


def _unreachable(order: Order, host: str, why: str) -> str:
    alone = ""
    if isinstance(order, Pause | Resume | PauseHost | ResumeHost):
        alone = f". For this host alone: fleetctl {order.command} --host {host}"
    return f"the fleet can't be told now: {why}{alone}"
