"""What Redis may send in one round trip and in one reading. A server that sends more: sidekiq/test_lying_redis.py."""

from __future__ import annotations

import pytest

from fleetd.adapters.redis.bounded import ROUND_BYTES_MAX, Allowance, TooMuchSentError


def test_what_one_round_trip_may_send_is_allowed_anew_for_each_but_not_without_end() -> None:
    allowance = Allowance()
    for _ in range(6):
        allowance.begin_round()
        allowance.take(ROUND_BYTES_MAX)
    allowance.begin_round()
    with pytest.raises(TooMuchSentError):
        allowance.take(1)
    allowance.begin_reading()
    allowance.take(ROUND_BYTES_MAX)
    with pytest.raises(TooMuchSentError):
        allowance.take(1)
