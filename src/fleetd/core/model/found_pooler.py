"""What was found to answer where the workers reach Postgres, as fleetd keeps it and root reads it."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value


class FoundPooler(Value, frozen=True, kw_only=True):
    """`place`: of which address it is true. `takes_names`: a name given in PGOPTIONS arrives at Postgres."""

    kind: Literal["none", "pgbouncer", "unknown"]
    version: str = ""  # PgBouncer's; "": it does not say
    takes_names: bool = False
    place: str = ""
