"""Mastodon's units, from what systemctl prints (systemd 252)."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from fleetd.adapters.mastodon.services import MastodonService, mastodon_services
from fleetd.adapters.mastodon.sidekiq_command import SidekiqCommand, sidekiq_command

BUNDLE = "/home/mastodon/.rbenv/shims/bundle"
REST = "ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0"


def block(name: str, path: str, arguments: str, **more: str) -> str:
    properties = {
        "Id": name,
        "LoadState": "loaded",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "User": "mastodon",
        "WorkingDirectory": "/home/mastodon/live",
        "ExecStart": f"{{ path={path} ; argv[]={path} {arguments} ; {REST} }}",
        "Environment": 'RAILS_ENV=production "A SECRET=hunter2" DB_POOL=25',
        "ControlGroup": f"/system.slice/{name}",
        **more,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def found(*blocks: str, files: dict[str, str] | None = None) -> tuple[MastodonService, ...]:
    def ask(verb: str, *_: str) -> str:
        if verb == "list-units":
            return "mastodon-sidekiq.service loaded active running mastodon-sidekiq\n"
        if verb == "list-unit-files":
            return "mastodon-sidekiq.service enabled enabled\nmastodon-sidekiq-push@.service disabled enabled\n"
        return "\n".join(blocks)

    services = mastodon_services(ask, lambda path, user: (files or {}).get(f"{user}:{path}"))
    assert services is not None
    return services


def test_the_stock_unit() -> None:
    [unit] = found(block("mastodon-sidekiq.service", BUNDLE, "exec sidekiq -c 25"))
    assert "hunter2" not in repr(unit)
    assert unit == MastodonService(
        name="mastodon-sidekiq.service",
        runs="sidekiq",
        active=True,
        enabled=True,
        user="mastodon",
        directory="/home/mastodon/live",
        sidekiq=SidekiqCommand(threads=25, starts_with=f"{BUNDLE} exec sidekiq"),
        sizes={"DB_POOL": 25},
        control_group="/system.slice/mastodon-sidekiq.service",
    )


def test_units_of_any_name_are_found_where_their_files_are_known() -> None:
    """As systemctl matches its patterns."""
    loaded = ("jobs.service", "jobs@push.service", "mastodon-web.service", "cron.service")

    def ask(verb: str, *arguments: str) -> str:
        if verb != "list-units":
            return ""
        return "".join(f"{unit} loaded\n" for unit in loaded if any(fnmatch(unit, one) for one in arguments))

    asked = list[str]()

    def show(verb: str, *arguments: str) -> str:
        asked.extend(arguments if verb == "show" else ())
        return ask(verb, *arguments)

    assert mastodon_services(show, lambda *_: None, ("jobs.service", "jobs@.service")) == ()
    assert asked[1:] == ["jobs.service", "jobs@push.service", "mastodon-web.service"]


def test_only_what_has_a_name_is_asked_for() -> None:
    """A template has none; without systemd nothing is known."""
    asked: list[tuple[str, ...]] = []

    def ask(*arguments: str) -> str:
        asked.append(arguments)
        return "mastodon-web.service\nmastodon-sidekiq@.service\n" if arguments[0] == "list-unit-files" else ""

    assert mastodon_services(ask, lambda _path, _user: None) == ()
    assert asked[-1][2:] == ("mastodon-web.service",)
    assert mastodon_services(lambda *_: None, lambda _path, _user: None) is None


def test_settings_of_a_template_come_from_its_files_read_as_its_user() -> None:
    text = block("sidekiq@push.service", BUNDLE, "exec sidekiq -c ${THREADS} -q push", User="masto")
    text += "EnvironmentFiles=/etc/mastodon/push.env (ignore_errors=no)\n"
    [unit] = found(text, files={"masto:/etc/mastodon/push.env": "THREADS=7\nMAX_THREADS=9\n"})
    assert unit.sidekiq == SidekiqCommand(threads=7, queues=(("push", 0),), starts_with=f"{BUNDLE} exec sidekiq")
    assert unit.sizes == {"DB_POOL": 25, "MAX_THREADS": 9}
    assert unit.template == "sidekiq@"


def test_web_streaming_and_what_is_neither() -> None:
    services = found(
        block("mastodon-web.service", BUNDLE, "exec puma -C config/puma.rb", Environment="WEB_CONCURRENCY=4"),
        block("mastodon-streaming@4000.service", "/usr/bin/node", "./streaming", ActiveState="inactive"),
        block("mastodon-streaming.service", "/bin/echo", "collects mastodon-streaming@4000"),
        block("mastodon-media-remove.service", "/bin/sh", "bin/tootctl media remove"),
        block("mastodon-sidekiq-gone.service", BUNDLE, "exec sidekiq", LoadState="not-found"),
    )
    assert [(s.runs, s.active, s.sizes) for s in services] == [
        ("web", True, {"WEB_CONCURRENCY": 4}),
        ("streaming", False, {"DB_POOL": 25}),
    ]


def test_units_that_fleetd_renders_are_marked() -> None:
    ours = "/var/lib/mastodon-sidekiq/1.env (ignore_errors=no)"
    [unit] = found(block("mastodon-sidekiq@1.service", BUNDLE, "exec sidekiq $SIDEKIQ_ARGS", EnvironmentFiles=ours))
    assert unit.fleetds
    [own] = found(block("mastodon-sidekiq.service", BUNDLE, "exec sidekiq $SIDEKIQ_ARGS"))
    assert not own.fleetds, "a variable of that name may be anybody's"


def test_a_shell_that_goes_somewhere() -> None:
    shell = "-lc cd /srv/live && exec bundle exec sidekiq -c 10 -q default,2"
    [unit] = found(block("mastodon-sidekiq.service", "/bin/bash", shell, WorkingDirectory=""))
    assert unit.directory == "/srv/live"
    assert unit.sidekiq == SidekiqCommand(threads=10, queues=(("default", 2),))


@pytest.mark.parametrize(
    ("arguments", "threads", "queues"),
    [
        ("exec sidekiq", 5, ()),
        ("exec sidekiq -c5 -qpush", 5, (("push", 0),)),
        ("exec sidekiq --concurrency=30 --queue default,8 --queue=push,6", 30, (("default", 8), ("push", 6))),
        ("exec sidekiq -e production -c 12 -q default -q pull -t 25 -v", 12, (("default", 0), ("pull", 0))),
        ("exec sidekiq -q default,push", 5, (("default", 0),)),
        ("exec sidekiq -c many -q", 5, (("", 0),)),
        ("exec sidekiq $ARGS -q mailers", 9, (("default", 0), ("mailers", 0))),
        ("exec sidekiq -q $NOTHING", 5, (("", 0),)),
    ],
)
def test_options_in_each_of_their_forms(arguments: str, threads: int, queues: tuple[tuple[str, int], ...]) -> None:
    command = sidekiq_command(BUNDLE, f"{BUNDLE} {arguments}", {"ARGS": "-c 9 -q default"})
    assert command is not None
    assert (command.threads, command.queues) == (threads, queues)


@pytest.mark.parametrize(
    ("path", "arguments", "starts_with"),
    [
        ("/usr/bin/sidekiq", "sidekiq -r ./app.rb -c 5", "/usr/bin/sidekiq -r ./app.rb"),
        ("/usr/local/bin/bundle", "bundle exec sidekiq", "/usr/local/bin/bundle exec sidekiq"),
        ("/usr/bin/nice", "nice -n 5 bundle exec sidekiq", ""),
        ("/opt/bin/sidekiq", "/opt/bin/sidekiq -C config/sidekiq.yml", "/opt/bin/sidekiq"),
    ],
)
def test_what_starts_it(path: str, arguments: str, starts_with: str) -> None:
    command = sidekiq_command(path, arguments, {})
    assert command is not None
    assert (command.starts_with, command.config_file) == (starts_with, "")


def test_queues_in_a_file_and_threads_by_rails() -> None:
    command = sidekiq_command(BUNDLE, "bundle exec sidekiq -C /etc/own.yml", {"RAILS_MAX_THREADS": "15"})
    assert command is not None
    assert (command.config_file, command.threads) == ("/etc/own.yml", 15)
    mastodons = sidekiq_command(BUNDLE, "bundle exec sidekiq -q default", {"RAILS_MAX_THREADS": "15"})
    assert mastodons is not None
    assert mastodons.threads == 5, "its own config/sidekiq.yml says so, and that comes first"
    assert sidekiq_command(BUNDLE, "bundle exec puma", {}) is None
