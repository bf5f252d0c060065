"""Runs fleetctl in the test's own process, with made-up answers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from click.testing import CliRunner, Result

from fleetd.cli.advice.postmortem import Run
from fleetd.cli.client import Client
from fleetd.cli.main import cli
from fleetd.core.model.status import Status
from fleetd.errors import SourceUnavailableError
from tests.support.builders.systemd_answers import no_systemd

NOBODY = "fleetd is not on the bus"


def gone(_timeout_seconds: float) -> str:
    raise SourceUnavailableError(NOBODY)


def answering(status: Status | str) -> Callable[[float], str]:
    text = status if isinstance(status, str) else msgspec.json.encode(status).decode()
    return lambda _timeout_seconds: text


def fleetctl(*arguments: str, fetch: Callable[[float], str] = gone, run: Run = no_systemd, frames: int = 2) -> Result:
    left = iter(range(frames - 1))

    def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    client = Client(fetch=fetch, run=run, sleep=sleep)
    return CliRunner().invoke(cli, list(arguments), obj=client, prog_name="fleetctl")
