"""A status in which any number is replaced: fleetctl either shows it or says that it does not understand the answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from fleetd.cli.advice.explanation import explain_status
from fleetd.cli.client import AnswerError, read_status
from fleetd.cli.screens.connections import connection_screen
from fleetd.cli.screens.explain import explain_screen
from fleetd.cli.screens.status import status_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import UNICODE
from tests.support.builders import status_connections, status_examples
from tests.support.builders.json_numbers import kinds_of_numbers, number_paths, with_numbers

POSSIBLE = ("-1", "0", str(2**53), str(-(2**53)))
IMPOSSIBLE = ("9" * 400, str(10**30), "1e300", str(-(10**17)))


EXAMPLES = {**status_examples.ALL, **status_connections.ALL}


def document_of(name: str) -> Any:
    return json.loads(msgspec.json.encode(EXAMPLES[name]()))


@pytest.mark.parametrize("name", ["surge", "rolling", "paused"])
def test_a_number_that_no_fleetd_writes_is_not_shown(name: str) -> None:
    document = document_of(name)
    for path in kinds_of_numbers(document):
        for number in IMPOSSIBLE:
            with pytest.raises(AnswerError):
                read_status(with_numbers(document, [path], number).decode())


@pytest.mark.parametrize("number", POSSIBLE)
@pytest.mark.parametrize("name", ["surge", "rolling", "paused", "sick"])
def test_any_other_number_can_be_shown(name: str, number: str) -> None:
    document, page = document_of(name), Page(80, UNICODE)
    status = read_status(with_numbers(document, number_paths(document), number).decode())
    status_screen(status, page, height=None)
    connection_screen(status, page)
    explain_screen(status, page)
    explain_status(status)
