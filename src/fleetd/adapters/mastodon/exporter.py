"""Mastodon's own exporter for Prometheus inside each process, which needs a port for each.

Source: Mastodon's config/initializers/prometheus_exporter.rb and its local_server.rb (4.4 to 4.6): both switches are
compared with "true", and the port is MASTODON_PROMETHEUS_EXPORTER_PORT by `to_i`, or 9394. All instances read the same
`.env.production`, so the second one on a host dies with "Address already in use".
"""

from __future__ import annotations

import re

from fleetd.core.model.worker_settings import ExporterPorts

_PREFIX = "MASTODON_PROMETHEUS_EXPORTER_"
_USUAL_PORT = 9394
_PORT_MAX = 65_535
#: Where web, streaming, Postgres, Redis and PgBouncer usually listen; web also says so itself.
_USUALLY_TAKEN = frozenset({3000, 4000, 5432, 6379, 6432})


def exporter_ports(env: dict[str, str], taken: frozenset[int] = frozenset()) -> ExporterPorts | None:
    """None: workers start no exporter, or each takes any free port (0). `taken`: ports that none may have."""
    if env.get(f"{_PREFIX}ENABLED") != "true" or env.get(f"{_PREFIX}LOCAL") != "true":
        return None
    base = _to_i(env.get(f"{_PREFIX}PORT", str(_USUAL_PORT)))
    if not 0 < base <= _PORT_MAX:
        return None
    web = _to_i(env.get("PORT", ""))
    return ExporterPorts(base=base, taken=taken | _USUALLY_TAKEN | {web})


def _to_i(text: str) -> int:
    """As Ruby's String#to_i: what follows the digits is ignored, and no digits are 0."""
    found = re.match(r"\s*\+?([0-9]{1,9})", text)
    return int(found[1]) if found else 0
