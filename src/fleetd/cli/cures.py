"""What to do about a clamp, in one line; docs/operations.md says the same in its tables, and a test compares them."""

from __future__ import annotations

from fleetd.core.model.decision import ClampCode

CURES = {
    ClampCode.MAX: "raise max and instances of the profile, if connections and memory allow",
    ClampCode.CONNECTIONS: (
        "raise the limit that binds (max_connections, max_client_conn), give web or streaming smaller pools, or a"
        " profile fewer threads; fleetctl connections shows who has what"
    ),
    ClampCode.OTHERS_UNATTRIBUTABLE: (
        "declare what web and streaming may take at most, under [[connections.claims]]; fleetctl connections shows what"
        " is seen"
    ),
    ClampCode.DATABASE_BOTTLENECK: (
        "look at Postgres and PgBouncer (slow queries, locks, disk, default_pool_size), not at workers; growth is tried"
        " again by itself"
    ),
    ClampCode.YIELD: "nothing; more connections or memory would do for both",
    ClampCode.MEMORY: "lower memory.instance if your workers stay smaller; else a bigger VM",
    ClampCode.HEADROOM_UNKNOWN: "see journalctl -u fleetd; fleetd needs one connection of its own to each",
    ClampCode.LATENCY_UNKNOWN: "see journalctl -u fleetd, which names the key",
    ClampCode.SYSTEMD_UNKNOWN: "systemctl status dbus",
    ClampCode.MEMORY_UNKNOWN: "see journalctl -u fleetd",
    ClampCode.PINNED: "fleetctl release N, or wait until it ends",
    ClampCode.NOT_RENDERED: "systemctl start fleetd-render",
    ClampCode.START_FAILED: "systemctl status mastodon-sidekiq@N, mend it, fleetctl release N",
    ClampCode.NO_NUMBER_FREE: "wait for the drain; if there is none, give the profile more instances",
    ClampCode.PAUSED: "fleetctl resume, or wait until it ends",
    ClampCode.SET: "fleetctl set PROFILE auto, or wait until it ends",
    ClampCode.UPGRADE: "fleetctl restart once it is whole, or fleetctl resume",
    ClampCode.HOST_PRESSURE: "fewer threads or instances here, or a bigger VM",
    ClampCode.OOM_KILLED: "fewer threads or instances here, or a bigger VM; memory.instance may be set too low",
    ClampCode.UNRESPONSIVE: "see the instance's log: journalctl -u mastodon-sidekiq@N",
    ClampCode.UNDRAINABLE: "see that its unit's main process is Sidekiq itself, or passes signals on",
    ClampCode.REDIS_NOT_WRITABLE: "let Redis take writes again: its log says why it does not",
}
