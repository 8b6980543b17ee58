"""One mock cluster for all examples of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fastmpu
from fastmpu import mock


@pytest.fixture(scope="module")
def cluster() -> Iterator[mock.Cluster]:
    """Examples keep apart by their objects' names."""
    with mock.Cluster(targets=2) as cluster:
        with fastmpu.Client(cluster.endpoint) as client:
            client.bucket("bucket").create()
        yield cluster
