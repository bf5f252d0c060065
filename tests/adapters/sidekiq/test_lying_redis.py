"""What answers on Redis's port need not be Redis: it takes no memory, and each lie is a sentence."""

from __future__ import annotations

import asyncio
import time

import pytest

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.errors import SourceUnavailableError
from tests.support.attacks.lying_redis import ANSWERS, NONSENSE, LyingRedis
from tests.support.attacks.peak_memory import peak_memory
from tests.support.rig.redis_server import WAIT_SECONDS

#: Without a bound: 1500 MiB within the deadline.
GROWN_MIB_MAX = 150.0


def refusal(liar: LyingRedis) -> tuple[str, float]:
    """Why there is no reading, and the longest time that it held up the event loop for, in seconds."""

    async def go() -> tuple[str, float]:
        settings = RedisSettings(host="127.0.0.1", port=liar.port)
        source = SidekiqRedis(settings, queues=("default",), read_timeout_seconds=WAIT_SECONDS)
        longest, last = 0.0, time.monotonic()
        async with liar.listening():
            reading = asyncio.ensure_future(source.read())
            while not reading.done():
                await asyncio.sleep(0)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            await source.close()
        why = reading.exception()
        assert isinstance(why, SourceUnavailableError)
        return str(why), longest

    return asyncio.run(go())


@pytest.mark.parametrize("logs_in", [True, False])
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_without_end_is_cut_off(what: str, *, logs_in: bool) -> None:
    with peak_memory() as peak:
        why, held_up_seconds = refusal(LyingRedis(*ANSWERS[what], logs_in=logs_in))
    assert "127.0.0.1" in why
    if logs_in and what != "strings":  # of which each is a reply
        assert "sent more than the 16 MiB" in why
    assert peak.grown_mib < GROWN_MIB_MAX
    assert held_up_seconds < 5.0, "one string held it up for 11 s"


@pytest.mark.parametrize("logs_in", [True, False])
@pytest.mark.parametrize("what", NONSENSE)
def test_what_is_not_redis_is_said_and_never_a_bug(what: str, *, logs_in: bool) -> None:
    why, _ = refusal(LyingRedis(*NONSENSE[what], logs_in=logs_in))
    assert "127.0.0.1" in why
