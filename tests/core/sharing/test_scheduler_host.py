"""Where a scheduler would be started."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.sharing.report import HostReport, SchedulerReport
from fleetd.core.sharing.scheduler_host import majority_code, named_scheduler_host
from tests.support.builders.hosts import host, profile

HERE = SchedulerReport(place="here", may_start=True)


def named(*hosts: HostReport, away: frozenset[str] = frozenset()) -> str | None:
    return named_scheduler_host({h.host: h for h in hosts}, away)


def test_the_configured_host_comes_first_then_the_most_room() -> None:
    a, b = host("a", profile(1), left=1024), host("b", profile(1), left=2048)
    assert named(a, b) == "b"
    assert named(host("a", profile(1), left=1024, scheduler=HERE), b) == "a"
    assert named(host("a", profile(2)), host("b", profile(1))) == "b"
    assert named(host("a"), host("b")) == "a"


def test_a_host_that_may_not_start_it_is_not_named() -> None:
    elsewhere = SchedulerReport(place="elsewhere", may_start=True)
    for unfit in (
        host("a", scheduler=elsewhere),
        host("a", scheduler=SchedulerReport(place="here", may_start=False)),
        host("a", held="upgrade", scheduler=HERE),
        host("a", held="silent", scheduler=HERE),
    ):
        assert named(unfit) is None
        assert named(unfit, host("b")) == "b"
    assert named(host("a"), away=frozenset({"a"})) is None


def test_the_majority_s_code_comes_before_everything_else() -> None:
    b, c = host("b", code="new"), host("c", code="new")
    assert named(host("a", scheduler=HERE, code="old"), b, c) == "b"
    assert (
        named(host("a", scheduler=HERE, code="old"), structs.replace(b, held="paused"), structs.replace(c, held="x"))
        == "a"
    )


def test_of_two_codes_on_as_many_hosts_the_later_version_s_is_the_majority_s() -> None:
    a = structs.replace(host("a", code="x"), code_version="4.10.0")
    b = structs.replace(host("b", code="y"), code_version="4.9.1")
    assert majority_code({"a": a, "b": b}) == "x"
    assert majority_code({"a": host("a", code=""), "b": b}) == "y"
    assert majority_code({}) == ""
    odd = structs.replace(host("c", code="z"), code_version="glitch.1")
    assert majority_code({"b": b, "c": odd}) == "y"
