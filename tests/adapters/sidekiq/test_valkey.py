"""Valkey says in INFO by another name what Redis says. Here is what Valkey 8.1.8 says."""

from __future__ import annotations

import pytest

from fleetd.adapters.sidekiq.reading import is_cluster

INFO = {
    "redis_version": "7.2.4",
    "server_name": "valkey",
    "valkey_version": "8.1.8",
    "server_mode": "standalone",
    "run_id": "3f6d",
}


@pytest.mark.parametrize(
    ("server", "cluster"),
    [
        (INFO, False),
        ({**INFO, "server_mode": "cluster"}, True),
        ({"redis_version": "7.0.15", "redis_mode": "standalone"}, False),
        ({"redis_version": "7.0.15", "redis_mode": "cluster"}, True),
        ({"server_mode": "sentinel"}, False),
        ({}, False),
    ],
)
def test_a_cluster_is_one_in_either_words(server: dict[str, str], cluster: bool) -> None:
    assert is_cluster(server) is cluster
