"""Each process gets a port of its own for Mastodon's Prometheus exporter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.mastodon.exporter import exporter_ports
from fleetd.core.model.identity import NUMBER_MAX, SCHEDULER, InstanceKey
from fleetd.core.model.worker_settings import ExporterPorts

ON = {"MASTODON_PROMETHEUS_EXPORTER_ENABLED": "true", "MASTODON_PROMETHEUS_EXPORTER_LOCAL": "true"}
PORT = "MASTODON_PROMETHEUS_EXPORTER_PORT"


@pytest.mark.parametrize(
    ("env", "one", "scheduler"),
    [
        (ON, 9395, 19394),
        ({**ON, PORT: "9400"}, 9401, 19400),
        ({**ON, PORT: "9400 # web"}, 9401, 19400),
        ({**ON, PORT: "65535"}, 65534, 55535),
        ({**ON, PORT: "2999"}, 13000, 12999),  # web has 3000
        ({**ON, PORT: "8079", "PORT": "8080"}, 18080, 18079),
    ],
)
def test_ports(env: dict[str, str], one: int, scheduler: int) -> None:
    ports = exporter_ports(env)
    assert ports is not None
    assert (ports.of(InstanceKey(1)), ports.of(SCHEDULER)) == (one, scheduler)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MASTODON_PROMETHEUS_EXPORTER_ENABLED": "true"},  # it sends to a server of its own
        {"MASTODON_PROMETHEUS_EXPORTER_LOCAL": "true"},
        {**ON, "MASTODON_PROMETHEUS_EXPORTER_LOCAL": "false"},
        {**ON, "MASTODON_PROMETHEUS_EXPORTER_LOCAL": "1"},
        {**ON, PORT: "0"},
        {**ON, PORT: ""},
    ],
)
def test_without_an_exporter_in_the_process_nothing_is_rendered(env: dict[str, str]) -> None:
    assert exporter_ports(env) is None


@given(
    base=st.integers(min_value=1, max_value=65_535),
    keys=st.sets(st.integers(min_value=0, max_value=NUMBER_MAX), min_size=2, max_size=40),
    taken=st.frozensets(st.integers(min_value=1, max_value=65_535), max_size=1),
)
def test_no_two_processes_share_one_and_none_has_the_webs(base: int, keys: set[int], taken: frozenset[int]) -> None:
    ports = ExporterPorts(base=base, taken=taken)
    given_out = [ports.of(InstanceKey(key)) for key in keys]
    assert len(set(given_out)) == len(keys)
    assert base not in given_out
    assert all(0 < port <= 65_535 for port in given_out)
