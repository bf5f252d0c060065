"""Mastodon's database addresses, against real servers: fleetd reaches the server that Mastodon reaches."""

from __future__ import annotations

import pytest

from fleetd.adapters.mastodon.database_rules import database_settings
from fleetd.adapters.mastodon.dotenv import read_dotenv
from fleetd.config.connections import PostgresSettings
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.mastodon_postgres import read_once
from tests.support.rig.postgres_cluster import Cluster


def of(text: str) -> PostgresSettings:
    found = database_settings(read_dotenv([(".env.production", text)]), [])
    assert found is not None
    return found.login


def query(cluster: Cluster, *ports: int, attrs: str) -> str:
    hosts = ",".join([str(cluster.directory)] * len(ports))
    return (
        f"DATABASE_URL='postgresql://mastodon@/mastodon?host={hosts}&port={','.join(map(str, ports))}"
        f"&target_session_attrs={attrs}&application_name=web&options=-c%20statement_timeout%3D1'\n"
    )


@pytest.mark.parametrize("attrs", ["any", "read-write", "primary", "prefer-standby"])
def test_the_first_of_several_hosts_that_fits_is_read(cluster: Cluster, attrs: str) -> None:
    """The first is down; Mastodon's own options for its sessions are not fleetd's."""
    text = query(cluster, free_port(), cluster.port, attrs=attrs).replace("@/", "@h/")
    facts = read_once(of(text))
    assert facts.own_connections == 1


def test_a_server_that_mastodon_would_not_use_is_not_used_either(cluster: Cluster) -> None:
    text = query(cluster, cluster.port, attrs="standby").replace("@/", "@h/")
    with pytest.raises(SourceUnavailableError):
        read_once(of(text))


def test_the_address_that_counts_is_primary_database_url(cluster: Cluster) -> None:
    good = f"postgresql://mastodon@h/mastodon?host={cluster.directory}&port={cluster.port}"
    bad = f"postgresql://mastodon@h/mastodon?host={cluster.directory}&port={free_port()}"
    read_once(of(f"DATABASE_URL='{bad}'\nPRIMARY_DATABASE_URL='{good}'\n"))
