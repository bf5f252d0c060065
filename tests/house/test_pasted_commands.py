"""Every command that a page or a sentence tells people to paste is run somewhere."""

from __future__ import annotations

from tests.support.pasted import pasted_commands
from tests.support.pasted_runs import ELSEWHERE, HERE
from tests.support.project import PROJECT


def test_every_command_that_is_written_somewhere_is_run_somewhere() -> None:
    written = pasted_commands()
    assert len(written) > 80
    assert {command: place for command, place in written.items() if command not in HERE | ELSEWHERE.keys()} == {}
    assert (HERE | ELSEWHERE.keys()) - written.keys() == set(), "none is left over"
    for place in ELSEWHERE.values():
        assert " " in place or (PROJECT / place).is_file()
