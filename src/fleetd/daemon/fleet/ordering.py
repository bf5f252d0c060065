"""A person's order, given on this host: obeyed by it, or written to the ledger for every host that it concerns."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.asking import refusal_reason
from fleetd.core.fleet.calls import Code, Refusal
from fleetd.core.fleet.state import ORDERS_MAX
from fleetd.core.instances.orders import Order, Pause, Restart, Resume, SetInstances
from fleetd.core.model import reasons
from fleetd.core.model.person import Person
from fleetd.core.sharing.orders.counts import SetHost
from fleetd.core.sharing.orders.situation import FleetSituation, LedgerChanges, OrderToFleet
from fleetd.core.sharing.orders.to_fleet import ResumeHost, ToHost, answered, is_own, to_fleet
from fleetd.daemon.tick import Ticker
from fleetd.errors import OrderRefusedError, SourceUnavailableError
from fleetd.ports import Ledger
from fleetd.words.reasons import sentence

#: Ended orders of which a new one rids the ledger: each is a round trip.
OVER_MAX = 8


async def ordered(ticker: Ticker, order: Order, person: Person | None) -> reasons.Reply:
    """Obey a person between two ticks. Raises OrderRefusedError with the reason."""
    last, ledger = ticker.last, ticker.sources.ledger
    wide = None if last is None else to_fleet(order, structs.replace(last.tick, policy=ticker.policy))
    if wide is None or ledger is None:
        return ticker.order(order, person)
    try:
        changes = await _judged(ticker, ledger, wide, person)
        await _write(ledger, changes)
    except SourceUnavailableError as error:
        if is_own(order, ticker.policy.host):  # as on a single host: it needs no ledger
            return ticker.order(order, person)
        raise OrderRefusedError(_unreachable(order, ticker.policy.host, str(error))) from error
    return answered(changes, _obeyed_here(ticker, order, person, changes))


async def _judged(ticker: Ticker, ledger: Ledger, order: OrderToFleet, person: Person | None) -> LedgerChanges:
    state = await ledger.read()
    if state is None or ticker.last is None:
        raise SourceUnavailableError("the fleet's ledger in Redis is empty; try again in a few seconds")
    now = ticker.sources.clock.now_seconds()
    tick = structs.replace(ticker.last.tick, policy=ticker.policy)
    situation = FleetSituation(tick, ticker.host_memory, now, person, state)
    return structs.replace(order.judge(situation), over=situation.over[:OVER_MAX])


async def _write(ledger: Ledger, changes: LedgerChanges) -> None:
    for about in changes.over:
        _taken(await ledger.order(about, None))
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


def _obeyed_here(ticker: Ticker, order: Order, person: Person | None, changes: LedgerChanges) -> reasons.Reply | None:
    """What an end ends on this host besides; None: nothing. A resume that ended nothing anywhere is refused."""
    ends = isinstance(order, Resume | ResumeHost)
    ends = ends or (isinstance(order, SetInstances | SetHost) and order.instances is None)
    if not ends or (isinstance(order, ToHost) and not is_own(order, ticker.policy.host)):
        return None
    try:
        return ticker.order(order, person)
    except OrderRefusedError:
        if not changes.writes and isinstance(changes.reply, reasons.FleetResumeTaken):
            raise
        return None


def _unreachable(order: Order, host: str, why: str) -> str:
    alone = ""
    match order:
        case Pause() | Resume():
            alone = f"fleetctl {order.command} --host {host}"
        case SetInstances():
            count = "auto" if order.instances is None else str(order.instances)
            alone = f"fleetctl set {order.profile} {count} --host {host}"
        case Restart():
            alone = f"fleetctl restart{f' {order.profile}' if order.profile else ''} --host {host}"
        case _ if isinstance(order, ToHost):
            alone = f"fleetctl {order.command} there, with --host {order.host}"
    return f"the fleet can't be told now: {why}{f'. For one host alone: {alone}' if alone else ''}"
