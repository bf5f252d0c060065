"""What systemd says about a unit."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """What systemd says about a unit (`systemctl show`). `properties` has all of it."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    result: str
    main_pid: int
    """Its id inside the host. 0: there is none."""
    restarts: int
    properties: Mapping[str, str]

    @property
    def active(self) -> bool:
        """Whether it is up (not merely starting)."""
        return self.active_state == "active"


def unit_from(shown: str) -> Unit:
    """A unit from the output of `systemctl show`."""
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return Unit(
        name=properties["Id"],
        load_state=properties["LoadState"],
        active_state=properties["ActiveState"],
        sub_state=properties["SubState"],
        result=properties.get("Result", ""),
        main_pid=int(properties.get("MainPID", "0")),
        restarts=int(properties.get("NRestarts", "0")),
        properties=properties,
    )


def unit_name(name: str) -> str:
    """`redis-server` → `redis-server.service`; names with a suffix stay."""
    suffixes = (".service", ".target", ".socket", ".timer", ".path", ".mount", ".slice", ".scope")
    return name if name.endswith(suffixes) else f"{name}.service"
