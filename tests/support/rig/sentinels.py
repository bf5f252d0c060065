"""Real Sentinels that watch a primary called "mastodon"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import RedisServer

MASTER = "mastodon"


def sentinel_conf(port: int, *more: str, host: str = "127.0.0.1", quorum: int = 1) -> str:
    first = [line for line in more if line.startswith("sentinel resolve-hostnames")]  # before a name is given
    lines = [
        *first,
        f"sentinel monitor {MASTER} {host} {port} {quorum}",
        # Long enough not to take a primary for gone that is only slow on a busy machine.
        f"sentinel down-after-milliseconds {MASTER} 2000",
        f"sentinel failover-timeout {MASTER} 4000",
        *(line for line in more if line not in first),
    ]
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def sentinels(*configs: str) -> Iterator[list[RedisServer]]:
    """One for each configuration."""
    with contextlib.ExitStack() as stack:
        found = []
        for config in configs:
            sentinel = RedisServer(port=free_port(), sentinel_config=config)
            stack.callback(sentinel.close)
            sentinel.start()
            found.append(sentinel)
        yield found
