"""What the hosts of a fleet claim of a source at min, by what each told last."""

from __future__ import annotations

from msgspec import structs

from fleetd.app.doctor.min_of_hosts import MinOfHost, SetAside, set_aside
from tests.support.fleet.ledgers import SOURCE, entry, ledger, report

OTHER = "8899"


def test_each_hosts_min_and_one_scheduler_are_set_aside() -> None:
    state = ledger(
        w1=entry(report("w1", 9)), w2=entry(report("w2", 2)), w3=entry(report("w3", 1), scheduler={SOURCE: 15})
    )
    assert set_aside(state, "w1", SOURCE) == SetAside(
        hosts=(MinOfHost(host="w2", connections=54), MinOfHost(host="w3", connections=27)), scheduler_connections=15
    )
    assert set_aside(ledger(w1=entry(report("w1"))), "w1", SOURCE) == SetAside()


def test_a_silent_hosts_min_stays_aside_and_that_of_one_that_is_gone_does_not() -> None:
    silent, gone = entry(report("w2"), silent_seconds=9000.0), entry(report("w3"), gone=True)
    assert [h.host for h in set_aside(ledger(w2=silent, w3=gone), "w1", SOURCE).hosts] == ["w2"]


def test_a_host_on_another_server_takes_nothing_of_this_one() -> None:
    elsewhere = entry(report("w2", 5), missing={OTHER: 0}, scheduler={OTHER: 12})
    assert set_aside(ledger(w2=elsewhere), "w1", SOURCE) == SetAside()
    assert set_aside(ledger(w2=elsewhere), "w1", OTHER).hosts == (MinOfHost(host="w2", connections=135),)
    by_claims = ledger(
        w2=entry(report("w2", 5), missing={}, scheduler={}), claims={"w2": {"mastodon-sidekiq@1.w2": {OTHER: 27}}}
    )
    assert set_aside(by_claims, "w1", SOURCE) == SetAside()
    named_none = ledger(w2=entry(report("w2", 5), missing={}, scheduler={}))
    assert set_aside(named_none, "w1", SOURCE).hosts == (MinOfHost(host="w2", connections=135),), (
        "it may be on this one"
    )


def test_a_host_whose_profiles_are_unknown_counts_by_what_it_runs_and_may_start() -> None:
    claims = {
        "w2": {
            "mastodon-sidekiq@1.w2": {SOURCE: 27},
            "mastodon-sidekiq@2.w2": {SOURCE: 10},
            "mastodon-sidekiq-scheduler.w2": {SOURCE: 12},
        }
    }
    expected = (MinOfHost(host="w2", connections=42),)
    unread = ledger(w2=entry(None, missing={SOURCE: 5}), claims=claims)
    assert set_aside(unread, "w1", SOURCE) == SetAside(hosts=expected, scheduler_connections=12)
    cut = ledger(w2=entry(structs.replace(report("w2", 3), cut=True), missing={SOURCE: 5}), claims=claims)
    assert set_aside(cut, "w1", SOURCE).hosts == expected
