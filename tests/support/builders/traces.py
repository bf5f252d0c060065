"""Short builders of traces: a test gives only what it is about."""

from __future__ import annotations

from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.trace import Trace, parse_trace
from fleetd.simulate.world.world import World

PROFILE = """
[profiles.local]
order = "strict"
queues = ["default", "push", "pull"]
threads = 10
instances = 6
min = 1
"""


def small_trace(body: str, *, seconds: int = 600, head: str = "", profile: str = PROFILE) -> Trace:
    """A trace of these tables. `head` has the keys outside of tables."""
    return parse_trace(f'name = "test"\nduration_seconds = {seconds}\nboot_seconds = [10, 20]\n{head}\n{body}{profile}')


def queue_toml(name: str, arrivals: str = "[]", mean: float = 0.2, *, sigma: float = 1.0, bursts: str = "[]") -> str:
    """A queue as TOML; `mean` and `sigma` describe its service seconds."""
    return (
        f"[queues.{name}]\narrivals_per_second = {arrivals}\nbursts = {bursts}\n"
        f"service_seconds = {{ mean = {mean}, sigma = {sigma} }}\n"
    )


def world_of(trace: Trace) -> World:
    """The world at the beginning of a trace, under the trace's own policy."""
    return World(trace, policy_of(trace, None))


#: The example of docs/traces.md, with a second profile and a second queue.
DOCUMENTED = """
name = "influx"
seed = 7
duration_seconds = 21600
tick_seconds = 5
boot_seconds = [12, 30]
initial_instances = 2
[targets]
default = 5
push = 30
[queues.default]
arrivals_per_second = [[0, 12.0], [3600, 90.0], [7200, 20.0]]
bursts = [[1800, 20000]]
service_seconds = { mean = 0.2, sigma = 1.0 }
[queues.push]
service_seconds = { mean = 0.4 }
[profiles.local]
order = "strict"
queues = ["default", "ingress", "push", "mailers", "pull"]
threads = 25
db_pool = 30
instances = 12
[profiles.even]
order = "weighted"
weights = { default = 4, push = 2 }
instances = 3
min = 1
[database]
max_connections = 400
others = [[0, 150], [5000, 230]]
knee_busy_threads = 250
[host]
memory_bytes = 34359738368
instance_memory_bytes = [300e6, 1000e6]
[[faults]]
at = 4000
for_seconds = 120
source = "redis"
[[faults]]
at = 9000
kill_instances = 3
"""


def hosts_toml(**hosts: str) -> str:
    """[[hosts]] by name, each with the keys given as TOML."""
    return "".join(f'[[hosts]]\nname = "{name}"\n{keys}\n' for name, keys in hosts.items())
