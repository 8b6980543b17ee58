"""The cluster every story runs on: the mock, or the one that `AIS_ENDPOINT` names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

import fastmpu
from fastmpu import mock


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A proxy's URL. The mock lives as long as the test process; tests keep apart by their buckets."""
    live = os.environ.get("AIS_ENDPOINT")
    if live:
        yield live
        return
    with mock.Cluster(targets=3) as cluster:
        yield cluster.endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(endpoint) as client:
        yield client


@pytest.fixture
def bucket(client: fastmpu.Client) -> Iterator[fastmpu.Bucket]:
    """A fresh bucket, gone after the test."""
    bucket = client.bucket(f"test-{uuid.uuid4().hex[:12]}").create()
    yield bucket
    bucket.delete(missing_ok=True)
