"""A fake org.freedesktop.systemd1 on a private bus, with the behaviours of systemd 252 that fleetd must cope with.

Units are loaded while they are not inactive. A start passes through `activating` until the test finishes it
(:meth:`FakeSystemd.finish_start`); a stop passes through `deactivating` in the same way. Reading the properties of an
unloaded unit loads and unloads it, with UnitNew and UnitRemoved.
"""

from __future__ import annotations

import asyncio
import fnmatch
from dataclasses import dataclass, field
from typing import Any

from dbus_next.message import Message
from dbus_next.signature import Variant

from fleetd.adapters.bus.connection import Connection
from fleetd.adapters.bus.incoming import Call

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
ERROR = "org.freedesktop.systemd1."
_UNIT_FILES = ("mastodon-sidekiq@*.service", "mastodon-sidekiq-scheduler.service", "cron.service")


def path_of(name: str) -> str:
    return f"{PATH}/unit/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in name)


@dataclass
class FakeUnit:
    name: str
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    main_pid: int = 0
    exec_main_code: int = 0  # of the latest main process: 0 lives, 1 exited, 2 killed, 3 dumped core
    exec_main_status: int = 0
    need_daemon_reload: bool = False
    drop_ins: list[str] = field(default_factory=list)
    restarts: int = 0
    changed_microseconds: int = 0
    starts_left: int = 5  # of the start limit
    signals: list[int] = field(default_factory=list)
    lives: int = 0
    job: str = ""
    left_microseconds: int = 0  # when it was last active
    referenced: bool = False  # another unit's dependency keeps it loaded

    @property
    def loaded(self) -> bool:
        return self.active != "inactive" or self.referenced

    def properties(self) -> dict[str, Variant]:
        return {
            "LoadState": Variant("s", "loaded"),
            "ActiveState": Variant("s", self.active),
            "SubState": Variant("s", self.sub),
            "Result": Variant("s", self.result),
            "MainPID": Variant("u", self.main_pid),
            "NRestarts": Variant("u", self.restarts),
            "InvocationID": Variant("ay", bytes([self.lives] * 16)),
            "ControlGroup": Variant("s", f"/system.slice/{self.name}"),
            "ExecMainCode": Variant("i", self.exec_main_code),
            "ExecMainStatus": Variant("i", self.exec_main_status),
            "NeedDaemonReload": Variant("b", self.need_daemon_reload),
            "DropInPaths": Variant("as", self.drop_ins),
            "StateChangeTimestampMonotonic": Variant("t", self.changed_microseconds),
            "ActiveExitTimestampMonotonic": Variant("t", self.left_microseconds),
            "MemoryCurrent": Variant("t", 2**64 - 1),
        }


class FakeSystemd:
    """Tests set up its units and its misbehaviour, and look at what became of the units."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._subscribers: set[str] = set()
        self._late: set[asyncio.Task[None]] = set()
        self.units: dict[str, FakeUnit] = {}
        self.masked: set[str] = set()
        self.polkit_runs = True
        self.silent: set[str] = set()  # methods that never answer
        self.kept_silent = asyncio.Event()
        self.errors: dict[str, tuple[str, str]] = {}  # method to error name and text
        self.unreadable: set[str] = set()  # units whose properties can't be read
        self.nonsense: dict[str, tuple[str, list[Any]]] = {}  # method to signature and body
        self.die_on: set[str] = set()  # methods during which it re-executes itself
        self.properties_read = 0
        self.changes_asked = 0
        self.already_subscribed = False
        self.now_microseconds = 1_000_000

    async def start(self) -> None:
        self._connection = await Connection.open(self._address, on_call=self._call_came)
        await self._connection.call_bus("RequestName", "su", SYSTEMD, 4)
        if self.polkit_runs:
            await self._connection.call_bus("RequestName", "su", "org.freedesktop.PolicyKit1", 4)

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._subscribers.clear()

    async def end_polkit(self) -> None:
        assert self._connection is not None
        self.polkit_runs = False
        await self._connection.call_bus("ReleaseName", "s", "org.freedesktop.PolicyKit1")

    async def reexec(self, gone_seconds: float = 0.05) -> None:
        self.stop()
        await asyncio.sleep(gone_seconds)
        await self.start()

    def reload(self) -> None:
        """daemon-reload: sends hundreds of signals; every unit keeps its state."""
        self.signal(MANAGER, PATH, "Reloading", "b", [True])
        for number in range(300):
            name = f"some-{number}.service"
            self.signal(MANAGER, PATH, "UnitRemoved", "so", [name, path_of(name)])
            self.signal(MANAGER, PATH, "UnitNew", "so", [name, path_of(name)])
        self.signal(MANAGER, PATH, "Reloading", "b", [False])

    def unit(self, name: str) -> FakeUnit:
        return self.units.setdefault(name, FakeUnit(name))

    def run(self, name: str, *, pid: int = 1000, announce: bool = True) -> FakeUnit:
        """Make a unit active, as if someone had started it."""
        unit = self.unit(name)
        unit.lives += 1
        unit.exec_main_code = unit.exec_main_status = 0
        self._become(unit, "active", "running", announce=announce)
        unit.main_pid, unit.result = pid, "success"
        return unit

    def finish_start(self, name: str, result: str = "done") -> None:
        if result == "done":
            self.run(name)
        else:
            self.fail(name)
        self.announce_job(name, result)

    def finish_stop(self, name: str) -> None:
        self._become(self.unit(name), "inactive", "dead")
        self.announce_job(name, "done")

    def fail(self, name: str, result: str = "exit-code") -> None:
        unit = self.unit(name)
        unit.result, unit.main_pid = result, 0
        self._become(unit, "failed", "failed")

    def end_main_process(self, name: str, code: int, status: int, result: str = "") -> None:
        """The main process dies and Restart= waits, with the signals that systemd sends."""
        unit = self.unit(name)
        unit.exec_main_code, unit.exec_main_status, unit.main_pid = code, status, 0
        unit.result = result or {1: "exit-code" if status else "success", 2: "signal", 3: "core-dump"}[code]
        self._become(unit, "activating", "auto-restart")
        self._main_process_changed(unit)

    def skip(self, name: str, *, restarts: int = 0) -> None:
        """Its ExecCondition= refuses the start, with the signals that systemd sends; then it is unloaded."""
        unit = self.unit(name)
        unit.lives, unit.restarts, unit.exec_main_code, unit.job = unit.lives + 1, restarts, 0, ""
        for result, state in (("success", ("activating", "condition")), ("exec-condition", ("inactive", "dead"))):
            unit.result = result
            self._main_process_changed(unit)
            self._become(unit, *state)
        self.announce_job(name, "done")
        unit.result = "success"  # of an unloaded unit systemd knows nothing any more

    def restart_quietly(self, name: str, pid: int) -> None:
        """Restart= gives the unit a new process. In the list of units it looks the same as before."""
        unit = self.unit(name)
        unit.main_pid, unit.restarts, unit.lives = pid, unit.restarts + 1, unit.lives + 1
        unit.exec_main_code, unit.exec_main_status, unit.result = 0, 0, "success"
        unit.changed_microseconds = self.now_microseconds
        self._properties_changed(unit)
        self._main_process_changed(unit)

    def announce_job(self, name: str, result: str) -> None:
        self.signal(MANAGER, PATH, "JobRemoved", "uoss", [7, f"{PATH}/job/7", name, result])

    def signal(self, interface: str, path: str, member: str, signature: str, body: list[Any]) -> None:
        if self._connection is not None and self._subscribers:
            self._connection.send(Message.new_signal(path, interface, member, signature, body))

    def _become(self, unit: FakeUnit, active: str, sub: str, *, announce: bool = True) -> None:
        if unit.active == "active" != active:
            unit.left_microseconds = self.now_microseconds
        unit.active, unit.sub = active, sub
        unit.changed_microseconds = self.now_microseconds
        if announce:
            self._properties_changed(unit)

    def _properties_changed(self, unit: FakeUnit) -> None:
        body = ["org.freedesktop.systemd1.Unit", {"ActiveState": Variant("s", unit.active)}, []]
        self.signal("org.freedesktop.DBus.Properties", path_of(unit.name), "PropertiesChanged", "sa{sv}as", body)

    def _main_process_changed(self, unit: FakeUnit) -> None:
        names = ("MainPID", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus")
        changed = {name: value for name, value in unit.properties().items() if name in names}
        body = ["org.freedesktop.systemd1.Service", changed, ["ExecStart"]]
        self.signal("org.freedesktop.DBus.Properties", path_of(unit.name), "PropertiesChanged", "sa{sv}as", body)

    def _call_came(self, call: Call) -> Message | None:
        member = call.header.member
        if member in self.silent:
            self.kept_silent.set()
            return None
        if member in self.die_on:
            self.die_on.discard(member)
            task = asyncio.ensure_future(self.reexec())
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return None
        if member in self.errors:
            return call.refusal(*self.errors[member])
        if member in self.nonsense:
            signature, body = self.nonsense[member]
            return call.answer(signature, *body)
        answer: Message = getattr(self, f"_on_{member}")(call)
        return answer

    def _on_Subscribe(self, call: Call) -> Message:  # noqa: N802 - the D-Bus member
        if call.header.sender in self._subscribers or self.already_subscribed:
            self._subscribers.add(call.header.sender)
            return call.refusal(ERROR + "AlreadySubscribed", "Client is already subscribed.")
        self._subscribers.add(call.header.sender)
        return call.answer()

    def _on_ListUnitsByPatterns(self, call: Call) -> Message:  # noqa: N802
        _, patterns = call.arguments()
        rows = [
            [u.name, "", "loaded", u.active, u.sub, "", path_of(u.name), int(bool(u.job)), u.job, "/"]
            for u in self.units.values()
            if u.loaded and any(fnmatch.fnmatchcase(u.name, pattern) for pattern in patterns)
        ]
        return call.answer("a(ssssssouso)", rows)

    def _on_GetAll(self, call: Call) -> Message:  # noqa: N802
        self.properties_read += 1
        unit = next(u for u in self.units.values() if path_of(u.name) == call.header.path)
        if unit.name in self.unreadable:
            return call.refusal("org.freedesktop.DBus.Error.Failed", "not now")
        if not unit.loaded:
            self.signal(MANAGER, PATH, "UnitNew", "so", [unit.name, call.header.path])
            self.signal(MANAGER, PATH, "UnitRemoved", "so", [unit.name, call.header.path])
        return call.answer("a{sv}", unit.properties())

    def _on_StartUnit(self, call: Call) -> Message:  # noqa: N802
        self.changes_asked += 1
        name, mode = call.arguments()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _UNIT_FILES):
            return call.refusal(ERROR + "NoSuchUnit", f"Unit {name} not found.")
        if name in self.masked:
            return call.refusal(ERROR + "UnitMasked", f"Unit {name} is masked.")
        unit = self.unit(name)
        if unit.active == "deactivating" and mode == "fail":
            text = f"Transaction for {name}/start is destructive ({name} has 'stop' job queued)."
            return call.refusal(ERROR + "TransactionIsDestructive", text)
        if unit.active == "active":
            self.announce_job(name, "done")  # before the reply, as systemd does
        elif unit.starts_left <= 0:
            self.fail(name, "start-limit-hit")
            self.announce_job(name, "failed")
        else:
            unit.starts_left -= 1
            unit.main_pid = 999
            unit.job = "start"
            self._become(unit, "activating", "start")
        return call.answer("o", f"{PATH}/job/7")

    def _on_StopUnit(self, call: Call) -> Message:  # noqa: N802
        self.changes_asked += 1
        unit = self.unit(call.arguments()[0])
        unit.job = "stop"
        self._become(unit, "deactivating", "stop-sigterm")
        return call.answer("o", f"{PATH}/job/7")

    def _on_KillUnit(self, call: Call) -> Message:  # noqa: N802
        self.changes_asked += 1
        name, whom, number = call.arguments()
        assert whom == "main"
        self.unit(name).signals.append(number)
        return call.answer()

    def _on_ResetFailedUnit(self, call: Call) -> Message:  # noqa: N802
        self.changes_asked += 1
        unit = self.unit(call.arguments()[0])
        unit.starts_left = 5
        self._become(unit, "inactive", "dead")
        return call.answer()
