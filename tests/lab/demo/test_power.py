"""Of lost jobs: which a host had in hand when its power went, and which were lost in another way."""

from lab.jobs.power import InHand, in_hand
from lab.jobs.records import Run

OFF = (100.0, 100.2)


def run(jid: str, host: str = "w1", began: float = 99.0, result: str | None = None) -> Run:
    ended = None if result is None else began + 0.5
    return Run(
        jid, "FeedInsertWorker", "default", began - 1, host, "mastodon-sidekiq@1.service", 7, began, ended, result
    )


def push(at: float, queue: str = "default") -> dict[str, object]:
    return {"at": at, "queue": queue, "sure": True}


def sort(lost: list[str], runs: list[Run], pushes: dict[str, dict[str, object]]) -> InHand:
    return in_hand(lost, runs, pushes, "w1", OFF)


def test_a_job_that_ran_there_went_with_the_power() -> None:
    found = sort(["a"], [run("a")], {"a": push(90)})
    assert (found.running, found.fetched, found.elsewhere, found.total) == (("a",), (), (), 1)


def test_a_job_that_was_lost_on_another_host_did_not() -> None:
    assert sort(["a"], [run("a", "w2")], {"a": push(90)}).elsewhere == ("a",)


def test_a_job_that_began_there_later_did_not() -> None:
    assert sort(["a"], [run("a", began=160.0)], {"a": push(150)}).elsewhere == ("a",)


def test_a_job_whose_run_ended_there_did_not() -> None:
    assert sort(["a"], [run("a", result="failed")], {"a": push(90)}).elsewhere == ("a",)


def test_a_job_that_was_taken_at_that_moment_and_begun_nowhere_did() -> None:
    pushes = {"before": push(80), "a": push(81), "after": push(82)}
    around = [run("before", "w2", 99.9, "done"), run("after", "w2", 100.1, "done")]
    assert sort(["a"], around, pushes).fetched == ("a",)


def test_a_job_whose_turn_came_long_before_or_after_did_not() -> None:
    pushes = {"before": push(80), "a": push(81), "after": push(82)}
    early = [run("before", "w2", 85.0, "done"), run("after", "w2", 86.0, "done")]
    late = [run("before", "w2", 120.0, "done"), run("after", "w2", 121.0, "done")]
    assert sort(["a"], early, pushes).elsewhere == ("a",)
    assert sort(["a"], late, pushes).elsewhere == ("a",)


def test_only_its_own_queue_tells_when_its_turn_came() -> None:
    pushes = {"other": push(80, "pull"), "a": push(81), "next": push(82, "pull")}
    early = [run("other", "w2", 85.0, "done"), run("next", "w2", 86.0, "done")]
    assert sort(["a"], early, pushes).fetched == ("a",)
