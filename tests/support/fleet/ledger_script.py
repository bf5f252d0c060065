"""The ledger's script on a server whose clock and run_id a test sets."""

from __future__ import annotations

from typing import Any

import redis

from fleetd.adapters.ledger.script import script_with
from fleetd.core.fleet.calls import Server

_SERVER = "test:server"

SCRIPT = script_with(f"""
local function server()
  local values = redis.call('HMGET', '{_SERVER}', 'time_ms', 'run_id')
  return tonumber(values[1]), values[2]
end
""")


def pretend(client: redis.Redis, server: Server) -> None:
    """From now on the script finds these."""
    client.hset(_SERVER, mapping={"time_ms": server.time_ms, "run_id": server.run_id})


class Scripted:
    """Runs the script's calls at once, each with the whole ledger after it in one round trip."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        client.script_load(SCRIPT.text)

    def run(self, arguments: tuple[str, ...], server: Server) -> tuple[Any, dict[bytes, bytes]]:
        """The reply, and every field of the ledger after it."""
        pipeline = self._client.pipeline(transaction=False)
        pretend(pipeline, server)
        pipeline.evalsha(SCRIPT.sha, 1, "fleetd:ledger", *arguments)
        pipeline.hgetall("fleetd:ledger")
        _, reply, fields = pipeline.execute()
        return reply, fields
