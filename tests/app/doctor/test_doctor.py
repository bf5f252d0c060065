"""`fleetctl doctor`: what it makes of a snapshot. How it looks is tried in tests/lab/connections."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from fleetd.adapters.host.worker_account import AccountError
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.redis.server_look import ServerSeen
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.examine import examine
from fleetd.app.doctor.readings import reading_checks
from fleetd.app.doctor.redis_seen import RedisSeen
from fleetd.app.doctor.units import services, worker_units
from fleetd.app.endpoints import find_endpoints
from fleetd.config import parse
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model.facts import (
    CodeStamp,
    HostFacts,
    KeyFault,
    Known,
    RenderedSettings,
    Snapshot,
    UnfitUnit,
    UnitFacts,
)
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.core.model.identity import SCHEDULER, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.worker_settings import scheduler_digest
from tests.support.builders.readings import (
    bouncer,
    database,
    machine,
    process,
    queue,
    sidekiq,
    snapshot,
    systemd,
    tag,
    unit,
)
from tests.support.fleet.ledgers import entry, ledger

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
GUIDE = "LOCAL_DOMAIN=m.example\nREDIS_HOST=localhost\nDB_HOST=/var/run/postgresql\nDB_USER=mastodon\nDB_PASS=\n"
SETTINGS = parse(PROFILE)
POLICY = SETTINGS.policy
FOUND = FoundPooler(kind="none", takes_names=True, place="/var/run/postgresql:5432")
ENDPOINTS = find_endpoints(SETTINGS, EnvFile(text=GUIDE))


def ready(*, without: set[int] | None = None) -> HostFacts:
    """A host on which everything is rendered, but for `without`."""
    facts = machine(POLICY, without=without)
    scheduler = RenderedSettings(profile="scheduler", digest=scheduler_digest(POLICY.scheduler))
    return structs.replace(
        facts, rendered={**facts.rendered, SCHEDULER: scheduler}, code=CodeStamp(digest="0a1b2c3d", version="4.5.3")
    )


def well() -> Snapshot:
    return snapshot(
        POLICY,
        redis=sidekiq(queue("default")),
        postgres=database(maximum=300, clients=20),
        units=systemd({1: unit()}),
        host=ready(),
    )


def wrong(shot: Snapshot) -> list[Check]:
    return [check for check in reading_checks(SETTINGS, ENDPOINTS, shot) if check.verdict != "ok"]


def only(shot: Snapshot) -> Check:
    [check] = wrong(shot)
    return check


def test_all_is_well() -> None:
    assert wrong(well()) == []
    said = {check.subject: check.what for check in reading_checks(SETTINGS, ENDPOINTS, well())}
    assert said["Redis"] == "localhost:6379, database 0: 1 queue, 0 heartbeats"
    plainly = "at min you use 39 of 268; one more of default-first (27) fits: "
    limit = "limit 297 (300 − 3 reserved for superusers)"
    assert said["Postgres"].startswith(f"{plainly}{limit}, less reserve 10, less others' 19, less ")


def test_a_host_that_is_gone_makes_no_fleet_of_several() -> None:
    def subjects(of: LedgerState) -> set[str]:
        seen = RedisSeen(server=ServerSeen(), ledger=of)
        return {check.subject for check in reading_checks(SETTINGS, ENDPOINTS, well(), seen=seen)}

    assert "Redis's replicas" in subjects(ledger(w1=entry(None), w2=entry(None)))
    assert "Redis's replicas" not in subjects(ledger(w1=entry(None), w2=entry(None, gone=True)))


def test_what_is_masked_and_a_polkit_that_does_not_run_have_their_lines() -> None:
    masked = structs.replace(ready(), masked_units=("mastodon-sidekiq@2.service",))
    check = only(structs.replace(well(), machine=Known(value=masked)))
    assert (check.what, check.line) == ("mastodon-sidekiq@2 is masked", "sudo systemctl unmask mastodon-sidekiq@2")
    alone = structs.replace(systemd({1: unit()}), polkit_runs=False)
    check = only(structs.replace(well(), systemd=Known(value=alone)))
    assert (check.what, check.verdict) == ("polkit does not run", "broken")
    assert "systemctl start polkit" in check.line


def test_a_login_that_fails_over_the_guides_socket_has_its_line() -> None:
    lost = structs.replace(well(), database=snapshot(POLICY).database)
    check = only(lost)
    assert (check.subject, check.verdict) == ("Postgres", "broken")
    assert check.line == "sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN IN ROLE pg_monitor'"
    assert "nothing grows above min" in check.why


@pytest.mark.parametrize(
    ("maximum", "clients", "verdict", "left"),
    [(300, 20, None, None), (60, 21, "broken", "left"), (100, 31, "look", "left"), (60, 60, "broken", "-")],
)
def test_what_the_profiles_claim_at_min_leaves(maximum: int, clients: int, verdict: str | None, left: str) -> None:
    found = wrong(structs.replace(well(), database=Known(value=database(maximum=maximum, clients=clients))))
    assert [check.verdict for check in found] == ([] if verdict is None else [verdict])
    if found:
        assert left in found[0].what


def test_that_one_more_does_not_fit_is_said_in_plain_words() -> None:
    check = only(structs.replace(well(), database=Known(value=database(maximum=100, clients=31))))
    assert check.what.startswith(
        "at min you use 39 of 57; one more of default-first (27) does not fit: limit 97 (100 − 3 "
    )


def test_pgbouncers_slots_and_a_full_server() -> None:
    behind = structs.replace(well(), database=None, pgbouncer=Known(value=bouncer(limit=20, clients=18)))
    assert (only(behind).subject, only(behind).verdict) == ("PgBouncer", "broken")
    full = structs.replace(well(), database=Known(value=database(refused=True)))
    assert only(full).what == "it lets no more clients in"


def test_workers_behind_pgbouncer_are_not_counted_twice() -> None:
    """At min one instance and the scheduler claim 39, and that is how many clients are seen."""
    one = structs.replace(well(), database=None, pgbouncer=Known(value=bouncer(limit=100, clients=40)))
    check = only(one)
    plainly = "at min you use 39 of 90; one more of default-first (27) may not fit: "
    claimed = plainly + "limit 100, less reserve 10, less others' 0, less 39 that the profiles claim at min"
    assert (check.verdict, check.what) == ("look", f"{claimed}: 51 left, or 12")
    assert "[[connections.claims]]" in check.why


def test_postgres_behind_pgbouncer_is_measured_by_the_pools() -> None:
    behind = structs.replace(
        well(),
        database=Known(value=database(maximum=100, clients=31)),
        pgbouncer=Known(value=bouncer(limit=400, clients=40, size=20, servers=20)),
    )
    said = {check.subject: check.what for check in reading_checks(SETTINGS, ENDPOINTS, behind)}
    assert (
        said["Postgres"]
        == "limit 97 (100 − 3 reserved for superusers), less reserve 10, less others' 10, less 20 that PgBouncer's "
        "pools may open: 57 left"
    )


def test_nameless_workers_at_work_leave_the_lower_of_two_numbers() -> None:
    """As in `fleetctl connections`: 60 bear no name, up to 7 of them are the worker's."""
    named = find_endpoints(SETTINGS, EnvFile(text=GUIDE), FOUND)
    shot = structs.replace(
        well(),
        sidekiq=Known(value=sidekiq(queue("default"), processes=(process(tag(1, pool=25), busy=5),))),
        database=Known(value=database(maximum=133, clients=61)),
    )
    [check] = [c for c in reading_checks(SETTINGS, named, shot) if c.verdict != "ok"]
    assert check.verdict == "look"
    assert check.what.endswith("others' 53, less 39 that the profiles claim at min: 28 left, or 21"), check.what
    assert "[[connections.claims]]" in check.why


def test_other_hosts_workers_are_no_room() -> None:
    facts = database(maximum=300, clients=60, workers={"mastodon-sidekiq@1.w2": 25})
    said = {
        check.subject: check.what
        for check in reading_checks(SETTINGS, ENDPOINTS, structs.replace(well(), database=Known(value=facts)))
    }
    assert "others' 34, less 25 of workers that w1's profiles don't name, less 39" in said["Postgres"]


def test_no_room_beside_a_unit_that_a_migration_ends_is_no_advice_to_have_fewer_threads() -> None:
    full = structs.replace(well(), database=Known(value=database(maximum=100, clients=45)))
    [alone] = [check for check in reading_checks(SETTINGS, ENDPOINTS, full) if check.verdict != "ok"]
    assert "fewer threads" in alone.why
    stock = ("mastodon-sidekiq.service",)
    [beside] = [check for check in reading_checks(SETTINGS, ENDPOINTS, full, stock) if check.verdict != "ok"]
    assert (beside.verdict, beside.what) == ("look", alone.what)
    assert "also those of mastodon-sidekiq.service, until `fleetctl migrate`" in beside.why


def test_a_count_that_is_too_high_has_the_grant_that_mends_it() -> None:
    hidden = structs.replace(database(maximum=300), exact=False)
    check = only(structs.replace(well(), database=Known(value=hidden)))
    assert (check.verdict, check.line) == ("look", "sudo -u postgres psql -c 'GRANT pg_monitor TO fleetd'")


def test_what_is_not_rendered() -> None:
    check = only(structs.replace(well(), machine=Known(value=ready(without={1}))))
    assert (check.verdict, check.what) == ("broken", "not rendered: mastodon-sidekiq@1.service")
    assert check.line == "sudo systemctl start fleetd-render"
    changed = ready()
    changed.rendered[InstanceKey(1)] = structs.replace(changed.rendered[InstanceKey(1)], digest="00000000")
    assert only(structs.replace(well(), machine=Known(value=changed))).line == check.line


def test_a_unit_that_systemd_can_not_load() -> None:
    broken: UnitFacts = structs.replace(unit("inactive"), load_state="bad-setting", name="mastodon-sidekiq@1.service")
    check = only(structs.replace(well(), systemd=Known(value=systemd({1: broken}))))
    assert check.what == "mastodon-sidekiq@1.service is bad-setting"


def test_redis_and_systemd_away() -> None:
    away = snapshot(POLICY, postgres=database(maximum=300), host=ready())
    assert [check.subject for check in wrong(away)] == ["Redis", "systemd"]
    assert all("holds everything" in check.why for check in wrong(away))


def test_a_key_that_can_not_be_read_and_workers_elsewhere() -> None:
    facts = structs.replace(
        sidekiq(queue("default")),
        faults=(KeyFault(key="queue:pull", why="not a list"),),
        endpoint="a:6379, database 0",
        workers_endpoint="b:6379, database 1",
    )
    said = [check.what for check in wrong(structs.replace(well(), sidekiq=Known(value=facts)))]
    assert said == ["queue:pull: not a list", "fleetd reads a:6379, database 0, the workers use b:6379, database 1"]


def test_memory_that_min_does_not_fit_in() -> None:
    small = structs.replace(ready(), memory_total_bytes=100)
    assert only(structs.replace(well(), machine=Known(value=small))).subject == "memory"


def test_every_problem_of_a_configuration_with_its_cure(tmp_path: Path) -> None:
    file = tmp_path / "fleetd.toml"
    file.write_text('[profiles.a]\nthreads = 0\ninstances = "0"\n')
    found = examine(file)
    assert {check.verdict for check in found} == {"broken"}
    assert len(found) >= 2
    assert all(check.why for check in found)


OBSERVING = parse(PROFILE.replace("[fleet]", '[fleet]\nmode = "observe"'))
STOCK = "mastodon-sidekiq.service"


def test_whoever_only_observes_is_shown_no_way_over_and_not_told_to_boot_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fleetd.app.doctor.units.systemctl", lambda *_, **__: "UnitFileState=disabled\n")
    acting = [check.line for check in services(SETTINGS, {}, (STOCK,))]
    assert acting == ["sudo fleetctl migrate", "sudo fleetctl migrate"]
    [only] = services(OBSERVING, {}, (STOCK,))
    assert (only.what, only.line) == ("fleetd.service is not enabled", "sudo systemctl enable --now fleetd.service")


def test_a_target_that_people_stopped_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"fleetd.service": "active", "mastodon-sidekiq.target": "inactive"}
    monkeypatch.setattr(
        "fleetd.app.doctor.units.systemctl",
        lambda *words, **_: f"UnitFileState=enabled\nActiveState={shown[words[-1]]}\n",
    )
    [check] = services(SETTINGS, {}, ())
    assert (check.verdict, check.what) == ("look", "mastodon-sidekiq.target is stopped")
    assert check.line == "sudo systemctl start mastodon-sidekiq.target"


def test_a_unit_of_ones_own_is_no_fault_while_fleetd_only_observes() -> None:
    file = "/etc/systemd/system/mastodon-sidekiq@.service"
    theirs = {TEMPLATE_UNIT: UnfitUnit(unit=TEMPLATE_UNIT, file=file, foreign=True, faults=())}
    assert [check.verdict for check in worker_units(SETTINGS, theirs)][-1] == "broken"
    found = list(worker_units(OBSERVING, theirs))[-1]
    assert (found.verdict, found.line) == ("look", "")


def test_it_says_that_fleetd_only_observes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fleetd.toml"
    rest = f'[state]\ndirectory = "{tmp_path}"\n'

    def unseen(*_: object) -> bytes:
        raise AccountError("nobody looks")

    monkeypatch.setattr("fleetd.app.doctor.examine.as_account", unseen)
    monkeypatch.setattr("fleetd.app.doctor.examine.given_env", lambda *_: EnvFile(text=GUIDE))
    for mode, said in (("observe", True), ("act", False)):
        file.write_text(PROFILE.replace("[fleet]", f'[fleet]\nmode = "{mode}"') + rest)
        looks = [check.why for check in examine(file) if check.what == "fleetd only observes"]
        assert bool(looks) is said
        assert all("systemctl reload fleetd" in why for why in looks)
