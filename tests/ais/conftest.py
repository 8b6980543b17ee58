"""A mock cluster per story, and a client whose wire is tapped: for faults that no live cluster can be asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interposer import Interposer

import fastmpu
from fastmpu import mock


@pytest.fixture
def cluster() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=3) as cluster:
        yield cluster


@pytest.fixture
def tap() -> Interposer:
    return Interposer()


@pytest.fixture
def tapped(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(cluster.endpoint, transport=tap) as client:
        yield client


@pytest.fixture
def obj(tapped: fastmpu.Client) -> fastmpu.Object:
    """An object's name, in a bucket that exists."""
    return tapped.bucket("bucket").create().object("dir/name.bin")
