"""Which state of an instance may follow which, from one punctual tick to the next.

A table and not code: state_of (lifecycle.py) derives each state afresh from facts, so nothing enforces the order; the
storms of the tests check every step against it, and the documentation draws it. A tick sees the world every few
seconds, so a state that passed in between is stepped over (serving to draining: quieted and confirmed at once).

What people and systemd do at any time is in every row: a process may be stopped, killed, restarted or pinned.
"""

from __future__ import annotations

from fleetd.core.decision import InstanceState as S

#: What can come of any process: it ends (stopped, by a person: pinned), dies and is restarted, or has died too often.
_ENDS = frozenset({S.STOPPING, S.STOPPED, S.PINNED, S.STARTING, S.FAILED})
#: How one that serves is on its way out.
_LEAVES = frozenset({S.QUIETING, S.DRAINING})

TRANSITIONS: dict[S, frozenset[S]] = {
    S.STOPPED: frozenset({S.STARTING, S.PINNED, S.FAILED}),
    S.FAILED: frozenset({S.STARTING, S.STOPPED, S.PINNED}),
    S.STARTING: frozenset({S.SERVING, S.OUTDATED}) | _LEAVES | _ENDS,
    S.SERVING: frozenset({S.OUTDATED, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.OUTDATED: frozenset({S.SERVING, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.PINNED: frozenset({S.SERVING, S.OUTDATED, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.UNRESPONSIVE: frozenset({S.SERVING, S.OUTDATED}) | _LEAVES | _ENDS,
    # Quiet can't be undone: from here no way leads back to serving but through a fresh process.
    S.QUIETING: frozenset({S.DRAINING, S.UNDRAINABLE}) | _ENDS,
    S.UNDRAINABLE: frozenset({S.DRAINING}) | _ENDS,
    S.DRAINING: _ENDS,
    # Back to quieting: the stop of a boot got lost, and it serves.
    S.STOPPING: _LEAVES | _ENDS - {S.STOPPING},
}
