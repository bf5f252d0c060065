"""What hosts of a fleet, people and Redis do to a ledger, as steps that hypothesis chooses."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from fleetd.core.fleet.calls import Admit, Beat, BeatReply, Commit, OwnScheduler, Start
from fleetd.core.fleet.state import BySource

HOSTS = ("w1", "w2", "w3", "wörker/4")
FLEET = "social.example/mastodon"
SCHEDULER = "mastodon-sidekiq-scheduler."

_JUMPS_MS = (5_000, 9_000, 21_000, 80_000, 310_000, 86_400_000, 0, 900, -60_000, -5)
_OPS = ("beat",) * 40 + ("admit",) * 20 + ("commit",) * 6 + ("order",) * 4 + ("forget", "run_id", "lost", "week")
#: What a well-behaved host does not do.
_ODD = (
    *("",) * 60,
    *("new nonce", "old nonce", "other boot", "versions forgotten", "other fleet", "no boot", "no nonce"),
    *("knows more", "knows less", "later clock", "another member", "unfit", "claims unknown", "too large"),
    *("other nonce", "other generation", "other token", "other epoch", "no ended", "late", "late"),
)


class Step(NamedTuple):
    """One step. What it does with its choices depends on `op`."""

    op: str
    host: str
    jump_ms: int
    odd: str  # "": as a well-behaved host does it
    choice: int  # 0 to 999


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(_OPS),
        st.sampled_from(HOSTS),
        st.sampled_from(_JUMPS_MS),
        st.sampled_from(_ODD),
        st.integers(0, 999),
    ),
    min_size=60,
    max_size=60,
)


def picked(choice: int, *values: Any) -> Any:
    return values[choice % len(values)]


class Actor:
    """A host, with what it remembers of the last answer to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boot = self.nonce = self.sent_ms = 0
        self.processes: dict[str, BySource] = {}
        self.heard: BeatReply | None = None
        self.generation = self.clock_ms = self.token = 0
        self.members: tuple[str, ...] = ()
        self.versions = (-1, -1, -1)

    def hear(self, reply: BeatReply) -> None:
        self.heard = reply
        self.generation, self.clock_ms = reply.generation, reply.clock_ms
        self.token = reply.token or self.token
        self.members = reply.members or self.members
        self.versions = (reply.orders_version, reply.members_version, reply.epoch)

    def process(self, number: int) -> str:
        # Two hosts have processes of one name, as Postgres cuts names off.
        return f"{SCHEDULER}{self.name}" if number == 0 else f"mastodon-sidekiq@{number}.{self.name[0]}"

    def claims(self, choice: int) -> BySource:
        return picked(choice, {"pg": 10}, {"pg": 7, "b/1": 5}, {"é": 3, "pg": 12}, {}, {"b/1": 0})  # type: ignore[no-any-return]

    def change(self, choice: int) -> None:
        """Its processes, as they come and go by themselves."""
        name = self.process(choice % 4)
        if choice % 3 == 0:
            self.processes.pop(name, None)
        elif choice % 7 == 0:
            self.processes = {**self.processes, name: self.claims(choice // 4)}

    def sent(self, odd: str) -> int:
        self.sent_ms += 5_000
        return self.sent_ms - (8_000 if odd == "late" else 0)

    def beat(self, step: Step) -> Beat:
        self.change(step.choice)
        odd, choice = step.odd, step.choice
        nonce, boot = self.nonce, self.boot
        if odd == "new nonce":
            nonce = self.nonce = self.nonce + 1
        if odd == "old nonce":
            nonce = self.nonce = max(0, self.nonce - 1)
        if odd == "other boot":
            boot = self.boot = (self.boot + 1) % 3
        orders, members, epoch = self.versions if odd != "versions forgotten" else (-1, -1, -1)
        own: OwnScheduler = picked(choice, "gone", "there", "kept", "unknown", "gone")
        others: tuple[str, ...] | None = picked(choice // 5, (), (), (HOSTS[choice % 3],), None, ("?",), ())
        ended = (
            tuple((host, f"mastodon-sidekiq@{n}.w") for host in HOSTS for n in (1, 2, 3)) if odd != "no ended" else ()
        )
        gone = HOSTS[choice % 4]
        return Beat(
            fleet=FLEET if odd != "other fleet" else "other",
            host=self.name,
            boot_id="" if odd == "no boot" else f"boot{boot}",
            nonce="" if odd == "no nonce" else f"nonce{nonce}",
            sent_ms=self.sent(odd),
            tick_ms=picked(choice // 3, 5_000, 5_000, 60_000),
            generation=self.generation + {"knows more": 1, "knows less": -1}.get(odd, 0),
            clock_ms=self.clock_ms + (1_000_000 if odd == "later clock" else 0),
            members=(*self.members, "w9") if odd == "another member" else self.members,
            fit=odd != "unfit",
            plan_format=picked(choice // 17, 1, 2, 1, 1, 0),
            own_scheduler=own,
            schedulers=others,
            claims=None if odd == "claims unknown" else dict(self.processes),
            missing=picked(choice // 7, {}, {"pg": 20}, {"b/1": 1}),
            scheduler=picked(choice // 11, {}, {"pg": 8}),
            record=picked(choice // 13, "", '{"a":[]}', "x" * (9000 if odd == "too large" else 30), '"\\\u0000é/\x7f'),
            ended=(*ended, (gone, f"{SCHEDULER}{gone}"), (gone, "")) if ended else (),
            orders_version=orders,
            members_version=members,
            epoch=epoch,
            has_memory=choice % 2 == 0,
        )

    def admit(self, step: Step) -> Admit:
        odd, choice = step.odd, step.choice
        numbers = picked(choice, (1,), (1, 2), (0,), (3, 0, 2), ())
        starts = tuple(
            Start(name=self.process(n), claims=self.claims(choice // 5 + n), scheduler=n == 0) for n in numbers
        )
        return Admit(
            host=self.name,
            nonce="another" if odd == "other nonce" else f"nonce{self.nonce}",
            generation=self.generation + (1 if odd == "other generation" else 0),
            sent_ms=self.sent(odd),
            claims=dict(self.processes),
            missing=picked(choice // 7, {}, {"pg": 10}),
            starts=starts,
            limits=picked(choice // 3, {"pg": 40, "b/1": 12}, {"pg": 100, "é": 3}, {}, {"pg": 0}, {"pg": 60}),
            seen=picked(choice // 11, {}, {"mastodon-sidekiq@1.w": 15, "foreign": 3}, {"mastodon-sidekiq@2.w": 9}),
            here=choice % 2 == 0,
            takeover_ms=picked(choice // 13, 60_000, 300_000),
        )

    def commit(self, step: Step) -> Commit:
        odd = step.odd
        return Commit(
            host=self.name,
            token=self.token + (1 if odd == "other token" else 0),
            generation=self.generation + (1 if odd == "other generation" else 0),
            epoch=self.versions[2] + (2 if odd == "other epoch" else 1),
            plan=f'{{"n":{step.choice}}}',
            memory=picked(step.choice, "", "bytes/ö"),
        )
