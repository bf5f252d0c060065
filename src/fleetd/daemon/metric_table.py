"""One table of values to gauge families: a column each, bounded, nothing for what is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric

#: Bounds of the label sets; the configuration allows fewer.
ROWS_MAX = 256
LABEL_LENGTH_MAX = 128

ABSENT = "Absent: unknown."

Row = TypeVar("Row")
Column = tuple[str, str, Callable[[Row], float | None]]  # name, help, value; None: unknown


def table(
    prefix: str,
    labels: Sequence[str],
    rows: Iterable[Row],
    labels_of: Callable[[Row], Iterable[str]],
    columns: Sequence[Column[Row]],
    *,
    rows_max: int = ROWS_MAX,
) -> Iterator[Metric]:
    """One gauge per column, one sample per row with a value."""
    distinct: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if len(distinct) == rows_max:
            break
        # The same series twice would make Prometheus refuse the whole scrape.
        distinct.setdefault(tuple(map(_label, labels_of(row))), row)
    for name, help_text, value_of in columns:
        family = GaugeMetricFamily(prefix + name, help_text, labels=labels)
        for key, row in distinct.items():
            value = value_of(row)
            if value is not None and math.isfinite(value):
                family.add_metric(key, value)
        yield family


def _label(text: str) -> str:
    """A label value that can always be written out, whatever bytes a queue was named with."""
    return text[:LABEL_LENGTH_MAX].encode(errors="replace").decode()
