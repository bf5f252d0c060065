"""Calls on a ledger as well-behaved hosts make them, and a ledger in memory with its clock."""

from __future__ import annotations

from typing import Any

from fleetd.core.fleet import rules
from fleetd.core.fleet.admission import admit
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Commit, Refusal, Server, Start
from fleetd.core.fleet.state import LedgerState

TICK_MS = 5_000


def beat_of(host: str, known: BeatReply | None = None, **fields: Any) -> Beat:
    """`known`: the last answer to this host."""
    given: dict[str, Any] = {"claims": {}, "record": f"record of {host}", "schedulers": (), "own_scheduler": "gone"}
    given |= {"fleet": "a/b", "boot_id": f"boot {host}", "nonce": f"nonce {host}", "tick_ms": TICK_MS}
    if known is not None:
        given |= {"generation": known.generation, "clock_ms": known.clock_ms, "epoch": known.epoch}
        given |= {"orders_version": known.orders_version, "members_version": known.members_version}
    return Beat(host=host, **given | fields)


def admit_of(host: str, *starts: Start, **fields: Any) -> Admit:
    given: dict[str, Any] = {"generation": 1, "claims": {}, "missing": {}, "limits": {"pg": 25}} | fields
    return Admit(host=host, nonce=f"nonce {host}", starts=starts, **given)


class Kept:
    """The rules on a state. Each beat comes a tick after the last call."""

    def __init__(self) -> None:
        self.kept: LedgerState | None = None
        self.time_ms = 1_700_000_000_000
        self.run_id = "run"
        self.known: dict[str, BeatReply] = {}

    @property
    def state(self) -> LedgerState:
        assert self.kept is not None
        return self.kept

    @property
    def server(self) -> Server:
        return Server(time_ms=self.time_ms, run_id=self.run_id)

    def answer(self, host: str, *, after_ms: int = TICK_MS, **fields: Any) -> BeatReply | Refusal:
        self.time_ms += after_ms
        self.kept, answer = rules.beat(self.kept, beat_of(host, self.known.get(host), **fields), self.server)
        if isinstance(answer, BeatReply):
            self.known[host] = answer
        return answer

    def beat(self, host: str, **fields: Any) -> BeatReply:
        """One that is not refused."""
        answer = self.answer(host, **fields)
        assert isinstance(answer, BeatReply)
        return answer

    def refused(self, host: str, **fields: Any) -> Refusal:
        answer = self.answer(host, **fields)
        assert isinstance(answer, Refusal)
        return answer

    def gather(self, *hosts: str, **fields: Any) -> None:
        """Beats until nothing is gathered any more."""
        while any(self.beat(host, **fields).gathering is not None for host in hosts):
            pass

    def pass_ms(self, milliseconds: int, *hosts: str, **fields: Any) -> None:
        """Only these beat meanwhile, each tick."""
        until = self.state.clock_ms + milliseconds
        while self.state.clock_ms < until:
            for index, host in enumerate(hosts):
                self.beat(host, after_ms=0 if index else TICK_MS, **fields)

    def admit(self, host: str, *starts: Start, **fields: Any) -> Admitted:
        fields = {"generation": self.state.generation} | fields
        self.kept, answer = admit(self.kept, admit_of(host, *starts, **fields), self.server)
        return answer

    def commit(self, host: str, **fields: Any) -> Refusal | None:
        known = self.known[host]
        given = {"token": known.token or 0, "generation": known.generation, "epoch": known.epoch + 1} | fields
        call = Commit(host=host, plan="plan", memory="memory", **given)
        self.kept, refusal = rules.commit(self.kept, call, self.server)
        return refusal

    def order(self, about: str, what: str | None) -> Refusal | None:
        self.kept, refusal = rules.order(self.kept, about, what)
        return refusal

    def forget(self, host: str) -> None:
        self.kept, refusal = rules.forget(self.kept, host)
        assert refusal is None
