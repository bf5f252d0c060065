"""Orders to a fleet end by themselves, whatever clocks do, and nothing that others wrote is one."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.fleet.orders import (
    ORDER_SECONDS_MAX,
    FleetOrder,
    about_maintenance,
    about_pause,
    about_restart,
    about_set,
    abouts_of,
    in_maintenance,
    kept_orders,
    lost,
    maintenance_of,
    over,
    pause_of,
    read,
    restarts_heard,
    set_heard,
    sets_of_fleet,
    subject_of,
    timed,
    written,
)
from fleetd.core.fleet.view import FleetKnown, FleetView
from fleetd.core.model.person import Person
from tests.support.builders.fleets import REPLY

HOSTS = ("w1", "w2")
NOTES = st.none() | st.text(string.printable.strip(), max_size=30)
ORDERS = st.builds(
    FleetOrder,
    until_ms=st.integers(0, 2_000_000_000),
    note=NOTES,
    person=st.none() | st.just(Person(user="root", login="alice")),
    force=st.booleans(),
    instances=st.none() | st.integers(0, 9),
    profile=st.sampled_from(["", "pull"]),
)
ABOUTS = st.sampled_from(
    [
        *(
            about
            for host in ("", *HOSTS)
            for about in (about_pause(host), about_restart(host), about_set("pull", host))
        ),
        *map(about_maintenance, HOSTS),
    ]
)
TEXTS = ORDERS.map(written) | st.text(max_size=40) | st.just('{"until_ms": 1e400}')


@given(ORDERS)
def test_there_and_back(order: FleetOrder) -> None:
    assert read(written(order)) == order


@given(st.dictionaries(ABOUTS, TEXTS, max_size=5), st.integers(0, 2_000_000_000), st.floats(0.0, 1e7))
def test_no_order_is_in_force_after_a_week_or_after_its_end(orders: dict[str, str], clock_ms: int, now: float) -> None:
    heard = FleetKnown(orders=orders, clock_ms=clock_ms)
    known = timed(heard, FleetKnown(), "boot", now)
    for reply in (None, structs.replace(REPLY, clock_ms=clock_ms)):
        view = FleetView(shared=True, known=known, reply=reply)
        for host in HOSTS:
            for found in (pause_of(view, host, now), maintenance_of(view, host, now)):
                one = found[0] if isinstance(found, tuple) else found
                assert one is None or 0.0 < one.left_seconds <= ORDER_SECONDS_MAX + 1e-6  # now + a week − now
                assert one is None or reply is None or one.order.until_ms > clock_ms
            counts = [set_heard(view, "pull", at, now) for at in ("", host)]
            found_all = [*counts, *restarts_heard(view, host, now).values(), *sets_of_fleet(view, now).values()]
            assert all(0.0 < h.left_seconds <= ORDER_SECONDS_MAX for h in found_all if h is not None)
            assert all(h.order.instances is not None for h in counts if h is not None)
            later = now + ORDER_SECONDS_MAX
            assert restarts_heard(view, host, later) == {}
            assert set_heard(view, "pull", host, later) is None
            assert pause_of(view, host, later) is None
            assert maintenance_of(view, host, later) is None
        assert set(in_maintenance(view, now)) <= {about.partition(" ")[2] for about in orders}
    for kept in kept_orders(orders, clock_ms):
        assert kept.order.until_ms > clock_ms
        assert kept.about not in over(orders, clock_ms)


@given(st.dictionaries(ABOUTS, ORDERS.map(written), min_size=1, max_size=5), st.lists(st.floats(0.0, 1e5), max_size=6))
def test_hearing_an_order_again_does_not_prolong_it(orders: dict[str, str], pauses: list[float]) -> None:
    now = 100.0
    known = first = timed(FleetKnown(orders=orders), FleetKnown(), "boot", now)
    for seconds in pauses:
        now += seconds
        known = timed(known, known, "boot", now)
    assert known.orders_until == first.orders_until


def test_a_reboot_counts_what_is_left_anew_and_an_hour_without_redis_ends_an_hour() -> None:
    text = written(FleetOrder(until_ms=1_000_000 + 3_600_000))
    known = timed(FleetKnown(orders={"pause": text}, clock_ms=1_000_000), FleetKnown(), "boot", 50.0)
    assert known.orders_until == {"pause": 3650.0}
    assert pause_of(FleetView(shared=True, known=known), "w1", 3650.0) is None
    again = timed(known.worth_keeping(), known, "next boot", 5.0)
    assert again.orders_until == {"pause": 5.0 + (1_000_000 + 3_600_000) / 1000}
    assert pause_of(FleetView(shared=False, known=known), "w1", 60.0) is None, "it shares nothing"


def test_only_who_heard_the_generation_before_tells_its_orders_again_while_hosts_are_asked() -> None:
    text, over = written(FleetOrder(until_ms=2_000_000)), written(FleetOrder(until_ms=5))
    before = FleetKnown(generation=3, orders={"pause": text, "pause w1": over, "maintenance w2": "junk"})
    gathers = structs.replace(REPLY, generation=4, gathering=("w2",), orders={})
    assert lost(before, gathers) == {"pause": text}
    assert lost(before, structs.replace(gathers, gathering=None)) == {}
    assert lost(before, structs.replace(gathers, generation=5)) == {}
    assert lost(before, structs.replace(gathers, generation=3)) == {}
    assert lost(before, structs.replace(gathers, orders={"pause": over})) == {}


def test_what_an_order_is_about_is_in_its_name() -> None:
    assert subject_of(about_pause()) == ("pause", "", "")
    assert subject_of(about_restart("w1")) == ("restart", "w1", "")
    assert subject_of(about_set("pull")) == ("set", "", "pull")
    assert subject_of(about_set("pull", "w1")) == ("set", "w1", "pull")
    kept = [about_pause("w1"), about_set("w1"), about_set("pull", "w1"), about_restart("w2"), about_restart("w1")]
    assert abouts_of("w1", dict.fromkeys(kept, "")) == ("pause w1", "restart w1", "set pull w1")


def test_a_count_without_a_number_is_no_order() -> None:
    text = written(FleetOrder(until_ms=2_000_000))
    assert kept_orders({about_set("pull"): text, about_restart(): text}, 5)[0].kind == "restart"
    assert len(kept_orders({about_set("pull"): text}, 5)) == 0
