"""The story of three hosts in phases, and how many jobs arrive."""

from __future__ import annotations

from collections.abc import Sequence

from lab.demo.samples import Sample
from lab.demo.story import Phase, Rates, finished, recovered
from lab.jobs import load

HOSTS = ("w1", "w2", "w3")
FIRST_SCHEDULER = "w1"
"""The host with `place = "here"`."""
INSTANCES_MIN = 1
"""`min` of each host in fleetd.toml."""
INSTANCES_MAX = 4
"""The numbers of each host in fleetd.toml."""
MAX_CONNECTIONS = 100
TAKEOVER_SECONDS = 60
"""`takeover_seconds` in fleetd.toml."""
HEARTBEAT_SECONDS = 60
"""How long a heartbeat outlives its process in Redis. A scheduler counts as seen until then."""
SHORTENED = f"Shortened: the scheduler is taken over after {TAKEOVER_SECONDS} s, not 5 min."
POWER_CUT = "power cut"
RETURN = "return"
COUNT = "count"

JOB_SCALE = 2.0
"""As in the demo of one host: two cores are enough for the surge in Ruby."""
CALM: Rates = {"default": 4.0, "push": 1.5, "ingress": 2.0, "mailers": 0.3, "pull": 0.5, "fasp": 0.3}
"""About 4 of the 15 threads of the smallest fleet."""
SURGE: Rates = {"default": 20.0, "push": 19.0, "ingress": 19.0, "mailers": 2.0, "pull": 4.0, "fasp": 1.0}
"""About 36 threads: more than twice the smallest fleet, and nearly all that two hosts have at their max."""
CALM_SECONDS = 12.0
SURGE_SECONDS = 150.0
"""How long the surge of jobs lasts: until about when the scheduler is taken over."""
_GROW_SECONDS = 15.0
_GROWN_LOOKS = 4
_AFTERWARDS_SECONDS = 900.0
_STEADY_LOOKS = 5


def load_of(seconds_scale: float) -> load.Load:
    """All jobs of the story."""
    parts = (
        load.Phase(CALM_SECONDS * seconds_scale, CALM),
        load.Phase(SURGE_SECONDS * seconds_scale, SURGE),
        load.Phase(_AFTERWARDS_SECONDS, CALM),
    )
    return load.Load(phases=parts, job_scale=JOB_SCALE, query_share=0.1)


def _never(_: Sequence[Sample]) -> bool:
    return False


def grown(samples: Sequence[Sample]) -> bool:
    """Whether in four consecutive samples every host had more than its min."""
    last = samples[-_GROWN_LOOKS:] if len(samples) >= _GROWN_LOOKS else ()
    return bool(last) and all(
        sample.instances_by_host is not None
        and all(sample.instances_by_host.get(host, 0) > INSTANCES_MIN for host in HOSTS)
        for sample in last
    )


def taken_over(samples: Sequence[Sample]) -> bool:
    """Whether in two consecutive samples a host was off, and a scheduler lived on another one."""
    last = samples[-2:] if len(samples) >= 2 else ()
    return bool(last) and all(
        sample.instances_by_host is not None
        and len(sample.instances_by_host) < len(HOSTS)
        and len(sample.scheduler_hosts or ()) == 1
        for sample in last
    )


def returned(samples: Sequence[Sample]) -> bool:
    """Whether in five consecutive samples every host had at least its min, and one scheduler lived."""
    last = samples[-_STEADY_LOOKS:] if len(samples) >= _STEADY_LOOKS else ()
    return bool(last) and all(
        sample.instances_by_host is not None
        and all(sample.instances_by_host.get(host, 0) >= INSTANCES_MIN for host in HOSTS)
        and len(sample.scheduler_hosts or ()) == 1
        for sample in last
    )


def phases(seconds_scale: float = 1.0) -> tuple[Phase, ...]:
    """The whole story. `seconds_scale` stretches the calm and the surge."""
    return (
        Phase(
            name="calm",
            watch="An ordinary afternoon: one instance on each of three hosts, one scheduler for all, and nothing "
            "waits.",
            seconds_max=CALM_SECONDS * seconds_scale,
            over=_never,
            timed=True,
        ),
        Phase(
            name="surge",
            watch="A post goes round the world. One host leads: it says how many more are needed, and shares them out "
            "by cores. All three grow alike.",
            seconds_max=60 + _GROW_SECONDS * seconds_scale,
            over=lambda samples: len(samples) >= _GROW_SECONDS * seconds_scale and grown(samples),
        ),
        Phase(
            name=POWER_CUT,
            watch="The host with the scheduler has lost its power, in mid surge. Its heartbeats live on for "
            f"{HEARTBEAT_SECONDS} s; {TAKEOVER_SECONDS} s after that, another host starts the scheduler.",
            seconds_max=HEARTBEAT_SECONDS + TAKEOVER_SECONDS + 90,
            over=taken_over,
        ),
        Phase(
            name="recovery",
            watch="There is a scheduler again, and two hosts work off what waits. Waits fall below their targets, "
            "important queues first.",
            seconds_max=180,
            over=recovered,
        ),
        Phase(
            name=RETURN,
            watch="The host gets its power back, and serves again. Its scheduler does not start: the unit asks Redis "
            "first, and sees that another one lives.",
            seconds_max=120,
            over=returned,
        ),
        Phase(
            name=COUNT,
            watch="No more jobs come. The last ones end, then every one of them is counted.",
            seconds_max=90,
            over=finished,
        ),
    )
