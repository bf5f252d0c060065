"""What runs: fleetd, Python, and the libraries that it uses, for a report of a fault."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import psycopg

from fleetd import __version__

_LIBRARIES = ("dbus-next", "msgspec", "prometheus-client", "psycopg", "redis", "structlog")


def versions() -> str:
    """Two lines: fleetd's version, then everything else's."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = [f"{name} {_version(name)}" for name in _LIBRARIES]
    number = psycopg.pq.version()  # 170005 is 17.5
    libpq = f"libpq {number // 10_000}.{number % 10_000}"
    return f"fleetd {__version__}\n{', '.join([python, *libraries, libpq])}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
