"""What an admin finds in `fleetctl history`, without --all, of what held the fleet and of reboots."""

from __future__ import annotations

from fleetd.cli.advice.recording import worth_reading
from fleetd.core.instances.orders import Resume
from fleetd.core.model.history import Entry
from tests.support.world.recorded import Recorded, busy_world


def shown(rig: Recorded) -> list[Entry]:
    return list(worth_reading(rig.history.read(0.0, samples=False).entries))


def test_an_upgrade_that_holds_is_shown_when_it_begins_and_when_it_ends() -> None:
    rig = Recorded(busy_world())
    rig.live(300.0)
    rig.world.code = "code-2"
    rig.live(60.0)
    rig.order(Resume())
    rig.live(60.0)
    [held] = [entry for entry in shown(rig) if entry.sentence.startswith("Mastodon's code on disk")]
    assert held.warning
    assert "is not what runs: nothing starts or stops until" in held.sentence
    [over] = [entry for entry in shown(rig) if "no longer holds the fleet" in entry.sentence]
    assert over.sentence == "Mastodon's new code no longer holds the fleet"
    assert over.at_seconds > held.at_seconds


def test_a_reboot_is_shown_whether_it_ends_orders_or_not() -> None:
    rig = Recorded(busy_world())
    rig.live(30.0)
    assert not any("rebooted" in entry.sentence for entry in shown(rig)), "the first boot that it sees is none"
    rig.world.reboot(at_boot=(1,))
    rig.kill_fleetd()
    rig.live(30.0)
    assert [e.sentence for e in shown(rig) if "rebooted" in e.sentence] == ["this host was rebooted"]
