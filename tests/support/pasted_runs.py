"""Where each command that people are told to paste is run: in a lab test in this order, or elsewhere.

A command that is new in a page or a sentence goes into one of these: tests/house/test_pasted_commands.py says so.
"""

from __future__ import annotations

#: Where there is no configuration yet.
FIRST_CONFIGURATION = ("sudo fleetctl init", "fleetctl init", "fleetctl init --stdout")
FIRST_DAY = (
    "sudo fleetctl check-config",
    "fleetctl check-config",
    "fleetctl install-units",
    "sudo fleetctl install-units --dry-run",
    "sudo fleetctl install-units",
    "chgrp mastodon /home/mastodon/live/.env.production; chmod g+r /home/mastodon/live/.env.production",
    "sudo fleetctl doctor",
    "sudo fleetctl grants",
    "sudo fleetctl migrate --dry-run",
)
#: They ask, on a terminal.
MIGRATION = ("sudo fleetctl migrate", "fleetctl migrate")
BACK = ("sudo fleetctl migrate --undo",)
#: The same by hand.
AGAIN = (
    "systemctl start fleetd-render",
    "systemctl enable --now fleetd",
    "systemctl enable --now mastodon-sidekiq.target",
    "fleetctl doctor",
)
LOOKING = (
    "fleetctl status",
    "journalctl -u fleetd -e",
    "journalctl -u fleetd",
    "journalctl -u fleetd-render",
    "journalctl -u fleetd-render -u fleetd",
    "journalctl -u mastodon-sidekiq@N",
    "journalctl -e -u 'mastodon-sidekiq@*'",
    "journalctl -u mastodon-sidekiq-scheduler",
    "journalctl -u 'fleetd-stamp*'",
    "curl -s localhost:9849/healthz",
    "fleetctl explain",
    "fleetctl explain PROFILE",
    "fleetctl explain [PROFILE]",
    "fleetctl connections",
    "fleetctl hosts",
    "fleetctl connections --json",
    "systemctl status dbus",
    "systemctl status mastodon-sidekiq@N",
    "systemctl status mastodon-sidekiq@1",
    "systemctl cat mastodon-sidekiq@0",
    "systemctl list-dependencies mastodon-workers-boot.target",
    "busctl introspect org.fleetd1 /org/fleetd1",
)
#: Paused, so that `set` starts nothing.
PAUSED = (
    'fleetctl pause --for 2h --reason "moving the database"',
    "fleetctl pause",
    'busctl call org.fleetd1 /org/fleetd1 org.fleetd1.Manager Pause ds 7200 "reason"',
    "fleetctl set default-first 6 --for 1h",
    "fleetctl set default-first auto",
    "fleetctl set default 6 --for 1h",
    "fleetctl set PROFILE auto",
    "fleetctl resume",
    "systemctl start mastodon-sidekiq@3",
)
ORDERS = (
    "fleetctl pin 3 --for 1d",
    "fleetctl drain 3 --wait",
    "fleetctl release 3",
    "fleetctl pin 3 --for 1d",
    "fleetctl release N",
    "fleetctl restart PROFILE",
    "fleetctl restart [PROFILE]",
    "fleetctl restart",
    "systemctl start mastodon-sidekiq@3",
    "fleetctl drain 3 --for 1d",
)
CHANGES = (
    "sudo systemctl reload fleetd",
    "systemctl reload fleetd",
    "systemctl daemon-reload",
    "sudo systemctl daemon-reload",
    "systemctl restart fleetd-render",
    "systemctl start fleetd-stamp",
    "systemctl restart fleetd",
)
#: With an editor, and only on a terminal.
EDITS = (
    "systemctl edit fleetd",
    "systemctl edit mastodon-sidekiq@",
    "systemctl edit mastodon-sidekiq@3",
    "systemctl edit mastodon-sidekiq@ mastodon-sidekiq-scheduler",
)
BY_HAND = (
    "systemctl start mastodon-sidekiq@3",
    "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq@3",
    "systemctl stop mastodon-sidekiq@3",
    "systemctl try-restart 'mastodon-sidekiq@*'",
    "systemctl restart 'mastodon-sidekiq@*'",
    "systemctl restart mastodon-sidekiq.target",
    "systemctl restart mastodon-sidekiq-scheduler",
    "systemctl stop mastodon-sidekiq-scheduler",
    "systemctl disable mastodon-sidekiq@2",
    "systemctl enable mastodon-sidekiq@9",
    "systemctl mask mastodon-sidekiq@2",
    "systemctl stop mastodon-sidekiq.target",
    "systemctl start mastodon-sidekiq.target",
)
AFTERWARDS = (
    "systemctl stop fleetd",
    "fleetctl history",
    "fleetctl history --since 2h",
    "fleetctl history --since 8h",
    "fleetctl history --since 8h --all",
    "fleetctl history --since 1d --json",
    "fleetctl replay",
    "fleetctl replay --since 24h",
    "fleetctl replay --since 24h --config new.toml",
    "fleetctl trace --since 24h > mine.toml",
    "fleetctl simulate TRACE.toml",
    "fleetctl simulate TRACE.toml --policy all",
)
AT_LAST = (
    "systemctl disable --now fleetd",
    "systemctl disable --now mastodon-sidekiq.target",
    "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq",
    "systemctl disable --now mastodon-sidekiq",
    "systemctl enable --now mastodon-sidekiq",
    "sudo fleetctl install-units --remove",
)
ON_MAIN = ("sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN IN ROLE pg_monitor'", "systemctl reload pgbouncer")
#: Shown until Ctrl-C.
ENDLESS = ("fleetctl connections --watch",)

_FIND = "find /etc/systemd/system -lname '/etc/systemd/system/mastodon-sidekiq"
_NOT_A_BOOTS = "-not -path '*/mastodon-workers-boot.target.wants/*'"
_FOREIGN = "tests/lab/systemd/test_foreign_units.py"
_PACKAGE = "tests/lab/systemd/test_package.py"
_TYPED = "of several hosts; typed in tests/cli/commands/test_hosts.py, obeyed in"
_SEVERAL = f"{_TYPED} tests/daemon/hosts/test_several_hosts.py"
_ORDERS = f"{_TYPED} tests/daemon/hosts/test_orders_over_hosts.py"
_COPIES = "tests/adapters/database/test_pasted_lines.py"
#: Where it is run, or why it can't be.
ELSEWHERE = {
    "fleetctl pause --host w2 --for 1h": _SEVERAL,
    "fleetctl set default-first 2 --host w2": _ORDERS,
    "fleetctl restart --host w2": _ORDERS,
    'fleetctl maintenance w2 --for 2h --reason "new kernel"': _SEVERAL,
    'fleetctl maintenance w2 --reason "new kernel"': _SEVERAL,
    "fleetctl maintenance w2 --end": _SEVERAL,
    "fleetctl hosts forget w2": _SEVERAL,
    "fleetctl hosts forget w3": _SEVERAL,
    "fleetctl status --fleet": _SEVERAL,
    "make demo": "tests/lab/long/test_demo.py",
    "make demo ARGS=--keep": "tests/lab/long/test_demo.py",
    "make demo ARGS=--hosts": "tests/lab/long/test_demo.py",
    "make test": "runs this",
    "make test-unit": "runs a part of this",
    "make test-pythons": "runs a part of this with other Pythons",
    "make test-long": "runs for an hour",
    "make venv": "a part of make test",
    "make lint": "a part of make test",
    "make lock": "renews the lock file",
    "make release": "tags; tests/house/test_release.py runs its checks",
    "make release RELEASE=bookworm": "tags; tests/house/test_release.py runs its checks",
    "git pull": "needs a server",
    "sudo apt-get install make git": "needs a server",
    "make deb": _PACKAGE,
    "make deb RELEASE=…": "stands for the next",
    "make deb RELEASE=trixie": "needs a server, and minutes; docs/operations.md says what was tried",
    "make deb-try RELEASE=…": "needs a server, and minutes; docs/operations.md says what was tried",
    "sudo apt-get install ./fleetd_VERSION_ARCH.deb": _PACKAGE,
    "sudo apt-get remove fleetd": _PACKAGE,
    "sudo apt-get purge fleetd": _PACKAGE,
    "git clone … fleetd && cd fleetd": "needs a server",
    "make install": "tests/lab/systemd/test_install.py",
    "sudo make install": "tests/lab/systemd/test_install.py",
    "sudoedit /etc/fleetd/fleetd.toml": "an editor",
    "fleetctl hurry N": "an example of a command that there is not",
    "fleetctl simulate": "lacks its argument: it is named, not to be run",
    "fleetctl pin": "lacks its argument: it is named, not to be run",
    "fleetctl drain": "lacks its argument: it is named, not to be run",
    "systemctl edit": "lacks its argument: it is named, not to be run",
    "systemctl edit --full": "lacks its argument: it is named, not to be run",
    "systemctl restart": "lacks its argument: it is named, not to be run",
    "systemctl stop": "lacks its argument: it is named, not to be run",
    "chmod a+rx": "lacks its argument: it is named, not to be run",
    "chmod a+r": "lacks its argument: it is named, not to be run",
    "systemctl stop {key:unit}": "has its argument at run time",
    "fleetctl drain N": "tests/daemon/life/test_health.py",
    "systemctl status fleetd-render": "ends with 3, since that unit does not stay",
    "fleetctl simulate benchmarks/traces/lab/sawtooth.toml --config benchmarks/traces/lab/fleetd.toml": (
        "tests/cli/commands/test_simulate.py"
    ),
    "fleetctl simulate benchmarks/traces/hosts/host-lost-at-the-peak.toml": "tests/cli/screens/test_simulated_hosts.py",
    f"{_FIND}@.service' {_NOT_A_BOOTS} -delete": _FOREIGN,
    "mv /etc/systemd/system/mastodon-sidekiq@.service /root/": _FOREIGN,
    f"{_FIND}-scheduler.service' {_NOT_A_BOOTS} -delete": _FOREIGN,
    "mv /etc/systemd/system/mastodon-sidekiq-scheduler.service /root/": _FOREIGN,
    "systemctl try-restart mastodon-sidekiq-scheduler.service": _FOREIGN,
    "sudo install -D -o fleetd -m 0600 ~mastodon/.pgpass /var/lib/fleetd/.pgpass": _COPIES,
    "sudo install -D -o root -m 0644 ~mastodon/.postgresql/root.crt /var/lib/fleetd/.postgresql/root.crt": _COPIES,
}
HERE = {
    *FIRST_CONFIGURATION,
    *FIRST_DAY,
    *MIGRATION,
    *BACK,
    *AGAIN,
    *AT_LAST,
    *LOOKING,
    *PAUSED,
    *ORDERS,
    *CHANGES,
    *EDITS,
    *BY_HAND,
    *AFTERWARDS,
    *ON_MAIN,
    *ENDLESS,
}
