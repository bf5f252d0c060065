"""The ledger's rules in every state that two (in the long form three) hosts and some faults can bring about."""

from __future__ import annotations

import pytest

from tests.support.fleet_search.mutations import MUTATIONS, without
from tests.support.fleet_search.scale import small_constants
from tests.support.fleet_search.search import Search
from tests.support.fleet_search.settings import LONG, SHORT


@pytest.mark.parametrize("name", list(SHORT))
def test_every_state_of_two_hosts_keeps_the_laws_and_leads_to_calm(name: str) -> None:
    with small_constants():
        found = Search(SHORT[name]).run()
    print(f"{name}: {found.told()}")
    assert found.broken == "", found.told()
    assert found.states > 100


@pytest.mark.long
@pytest.mark.parametrize("name", list(LONG))
def test_every_state_of_three_hosts_or_two_faults_keeps_the_laws(name: str) -> None:
    with small_constants():
        found = Search(LONG[name]).run(states_max=1_500_000)
    print(f"{name}: {found.told()}{'' if found.whole else ', not all states'}")
    assert found.broken == "", found.told()


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_the_search_breaks_without_each_of_the_rules(name: str) -> None:
    mutation = MUTATIONS[name]
    with without(mutation):
        found = Search(mutation.setting).run(states_max=100_000)
    print(f"{name}: {found.told()}")
    assert mutation.breaks in found.broken, found.told()
