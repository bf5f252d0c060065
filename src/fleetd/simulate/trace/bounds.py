"""How long and how large a trace may be, and the times in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

DAY_SECONDS = 86_400.0
#: The 31 days of `--since`, and the hour before it in which a recording's calm moment is looked for.
DURATION_SECONDS_MAX = 32 * DAY_SECONDS
BYTES_MAX = 1e15

#: Seconds since the start of the trace.
At = Annotated[float, Meta(ge=0, le=DURATION_SECONDS_MAX, examples=["4000"])]


def shape(description: str, example: str) -> Meta:
    """What an entry of a list looks like, for the problems of a file."""
    return Meta(extra_json_schema={"description": description}, examples=[example])
