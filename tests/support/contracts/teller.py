"""What every Teller promises: it takes any status, any number of times, and never raises."""

from __future__ import annotations

from collections.abc import Callable

from fleetd.ports import Teller
from tests.support.builders.status_connections import behind_pgbouncer, refused
from tests.support.builders.status_examples import crowd, everything_down, surge
from tests.support.builders.status_healthy import healthy
from tests.support.builders.status_instances import paused, sick

TellerCheck = Callable[[Teller], None]
STATUSES = (healthy, surge, everything_down, crowd, behind_pgbouncer, refused, paused, sick)


def it_takes_any_status_after_any_other(teller: Teller) -> None:
    for status in (*STATUSES, *reversed(STATUSES)):
        teller.tell(status())


def it_takes_the_same_status_again(teller: Teller) -> None:
    status = healthy()
    for _ in range(3):
        teller.tell(status)


teller_contract: tuple[TellerCheck, ...] = (
    it_takes_any_status_after_any_other,
    it_takes_the_same_status_again,
)
