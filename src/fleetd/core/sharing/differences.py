"""Settings in which hosts differ: the leader's hold for the fleet, and each difference is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from fleetd.core.model.reasons.sharing import SettingDiffers
from fleetd.core.sharing.report import HostReport
from fleetd.core.sharing.settings import USUAL_TARGET_SECONDS

#: The plan has no more: the rest is named once the first are mended.
DIFFERENCES_MAX: Final = 32


def from_leader(leader: HostReport, others: Mapping[str, HostReport]) -> tuple[SettingDiffers, ...]:
    """The settings in which hosts differ from their leader, by host."""
    found = (one for host in sorted(others) for one in differences(leader, others[host]))
    return tuple(islice(found, DIFFERENCES_MAX))


def differences(leader: HostReport, other: HostReport) -> tuple[SettingDiffers, ...]:
    """Every setting in which another host differs from the leader; the order of importance is one."""
    found = _named(leader, other)
    return tuple(
        SettingDiffers(host=other.host, setting=setting, value=value, leader=leader.host, leader_value=leads)
        for setting, value, leads in found
    )


def _named(leader: HostReport, other: HostReport) -> Iterator[tuple[str, str, str]]:
    """The setting, the other host's value, and the leader's. All empty: settings differ, and it is unknown which."""
    if leader.digest != other.digest:
        if leader.settings is None or other.settings is None:
            yield "", "", ""
        else:
            ours, theirs = leader.settings.numbers, other.settings.numbers
            for key in sorted(ours.keys() & theirs.keys()):  # one that only a later version has does not count
                if ours[key] != theirs[key]:
                    yield key, _said(theirs[key]), _said(ours[key])
            ours, theirs = leader.settings.targets_seconds, other.settings.targets_seconds
            for queue in sorted(ours.keys() | theirs.keys()):
                target, leads = theirs.get(queue, USUAL_TARGET_SECONDS), ours.get(queue, USUAL_TARGET_SECONDS)
                if target != leads:
                    yield f"targets.{queue}", _said(target), _said(leads)
    order, leads_order = _importance(other, leader), _importance(leader, other)
    if order != leads_order:
        yield "profiles", ", ".join(order), ", ".join(leads_order)


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _importance(report: HostReport, other: HostReport) -> list[str]:
    """The names of the profiles that both have, in the report's order."""
    both = {p.name for p in other.profiles}
    return [p.name for p in report.profiles if p.name in both]
