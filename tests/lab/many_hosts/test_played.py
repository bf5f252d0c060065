"""An interrupted campaign goes on where it was, and its figures are of the present sources only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lab.fleet_faults import played


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "played.jsonl"
    monkeypatch.setattr(played, "FILE", file)
    return file


def test_what_passed_is_skipped_and_what_failed_is_played_again() -> None:
    with played.kept("cut off", 1) as (_, figures):
        figures["back after s"] = 2.0
    with pytest.raises(ValueError, match="broken"), played.kept("cut off", 2):
        raise ValueError("broken")
    with pytest.raises(pytest.skip.Exception), played.kept("cut off", 1):
        raise AssertionError("it passed before")
    with played.kept("cut off", 2) as (_, figures):
        figures["back after s"] = 3.5
    assert played.table() == (
        "| fault | played | passed | figures |\n|---|---|---|---|\n| cut off | 3 | 2 | back after s 2 to 3.5 |"
    )


def test_a_number_draws_the_same_again_and_another_something_else(file: Path) -> None:
    drawn = []
    for fault, number in (("cut off", 1), ("cut off", 2), ("killed", 1)):
        with played.kept(fault, number) as (chance, _):
            drawn.append(chance.random())
    file.unlink()
    with played.kept("cut off", 1) as (chance, _):
        assert chance.random() == drawn[0]
    assert len(set(drawn)) == 3


def test_what_other_sources_did_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with played.kept("cut off", 1):
        pass
    monkeypatch.setattr(played, "present", lambda: "others")
    assert not played.passed("cut off", 1)
    assert "cut off" not in played.table()


def test_a_line_that_was_half_written_is_left_out(file: Path) -> None:
    with played.kept("cut off", 1):
        pass
    file.write_text(file.read_text() + '{"fault": "cut')
    assert played.passed("cut off", 1)
