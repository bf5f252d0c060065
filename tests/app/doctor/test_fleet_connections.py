"""`fleetctl doctor`: whether the min of all hosts and one scheduler fit into the connections that there are."""

from __future__ import annotations

from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.connections import connection_checks
from fleetd.app.endpoints import find_endpoints
from fleetd.config import parse
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model.facts import Known, PgBouncerFacts, Snapshot
from fleetd.core.model.policy_tables import Policy
from tests.support.builders.readings import bouncer, database, process, sidekiq, snapshot, systemd, tag
from tests.support.fleet.ledgers import SOURCE, entry, ledger, report

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
SETTINGS = parse(PROFILE)
GUIDE = "LOCAL_DOMAIN=m.example\nREDIS_HOST=localhost\nDB_HOST=/var/run/postgresql\nDB_USER=mastodon\nDB_PASS=\n"
ENDPOINTS = find_endpoints(SETTINGS, EnvFile(text=GUIDE))
NEVER = parse(PROFILE + '[scheduler]\nplace = "elsewhere"\n').policy


def shot(maximum: int, clients: int = 20, **workers: int) -> Snapshot:
    """A server with 3 reserved connections, of which fleetd holds one and the others' are `clients` less that."""
    named = {f"mastodon-sidekiq@1.{host}": open_now for host, open_now in workers.items()}
    facts = database(maximum=maximum, clients=clients + sum(workers.values()), workers=named)
    beats = tuple(process(tag(1, host=host, pool=25), threads=25, hostname=host) for host in workers)
    return snapshot(
        SETTINGS.policy,
        redis=sidekiq(processes=beats),
        postgres=structs.replace(facts, identity=SOURCE),
        units=systemd({}),
    )


def checked(seen: Snapshot, state: LedgerState | None, policy: Policy = SETTINGS.policy) -> Check:
    [check] = connection_checks(policy, ENDPOINTS, seen, (), state)
    return check


def of_two(low: int = 2) -> LedgerState:
    return ledger(w1=entry(report("w1")), w2=entry(report("w2", low)))


LIMIT = "limit 297 (300 − 3 reserved for superusers), less reserve 10, less others' 19, less "


def test_one_host_is_told_as_before() -> None:
    """27 for one instance and 12 for the scheduler."""
    alone = checked(shot(300), None)
    assert alone.what == (
        f"at min you use 39 of 268; one more of default-first (27) fits: {LIMIT}39 that the profiles claim at min: "
        "229 left"
    )
    assert checked(shot(300), ledger(w1=entry(report("w1", 9)))) == alone, "as it is configured now"


def test_min_of_every_host_and_one_scheduler_are_set_aside() -> None:
    """27 here, 2 × 27 there, and 12."""
    check = checked(shot(300), of_two())
    assert check.verdict == "ok"
    assert check.what == (
        "at min all 2 hosts together use 93 of 268; one more of default-first (27) fits: "
        f"{LIMIT}27 of w1's min, less 54 of w2's min, less 12 of one scheduler: 175 left"
    )


def test_the_scheduler_that_another_host_would_start_counts_where_this_one_never_does() -> None:
    check = checked(shot(300), of_two(), NEVER)
    assert check.what.endswith("less 54 of w2's min, less 12 of one scheduler: 175 left")
    nobody = ledger(w2=entry(report("w2", 2), scheduler={}))
    assert checked(shot(300), nobody, NEVER).what.endswith("less 27 of w1's min, less 54 of w2's min: 187 left")


def test_workers_of_hosts_in_the_ledger_count_once() -> None:
    """w2's @1 is within its min; w3 has told nothing, so what is seen of it counts."""
    check = checked(shot(300, w2=20, w3=5), of_two())
    assert check.what.endswith(
        "less others' 19, less 25 of workers that no host's profiles name, less 27 of w1's min, less 54 of w2's min, "
        "less 12 of one scheduler: 150 left"
    )


def test_what_does_not_fit_is_named_by_host() -> None:
    """Of 97 + 20 others are 10 in reserve and 19 others': 88 are left, and 27 + 54 + 12 are 93."""
    check = checked(shot(120), of_two())
    assert check.verdict == "broken"
    assert check.what.startswith(
        "at min all 2 hosts together use 93 of 88; one more of default-first (27) does not fit"
    )
    assert check.what.endswith(": -5 left")
    assert check.why.endswith("lower it by 5 in all (w1 27, w2 54), or raise the limit.")
    full = checked(shot(130), of_two())
    assert (full.verdict, full.what.rsplit(": ", 1)[1]) == ("look", "5 left")
    assert "No further instance fits" in full.why


def test_hosts_on_another_server_do_not_count_here() -> None:
    other = ledger(w2=entry(report("w2", 9), missing={"8899": 0}, scheduler={"8899": 12}))
    assert checked(shot(300), other) == checked(shot(300), None)


def test_each_pgbouncer_is_a_source_of_its_own() -> None:
    def behind(identity: str) -> Snapshot:
        facts: PgBouncerFacts = structs.replace(bouncer(limit=400, clients=1), identity=identity)
        return structs.replace(shot(300), database=None, pgbouncer=Known(value=facts))

    state = ledger(w2=entry(report("w2", 2), missing={"pgbouncer:w2": 0}, scheduler={"pgbouncer:w2": 12}))
    assert "w2's min" not in checked(behind("pgbouncer:w1"), state).what
    assert "less 54 of w2's min" in checked(behind("pgbouncer:w2"), state).what
