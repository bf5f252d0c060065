"""One PostgreSQL for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rig.mastodon_postgres import running_cluster, with_limits_restored
from tests.support.rig.postgres_cluster import Cluster


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    """A running cluster with Mastodon's roles and databases."""
    yield from running_cluster()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster. Its connection limits are restored after the test."""
    yield from with_limits_restored(shared_cluster)
