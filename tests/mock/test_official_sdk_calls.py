"""Calls of NVIDIA's Python SDK, unpatched, one of each kind. What each returns is what its documentation promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sdk_bucket_calls  # noqa: F401  (they fill the table)
import sdk_object_calls  # noqa: F401
from aistore.sdk import Client
from sdk_kit import CALLS

from fastmpu.mock import Cluster


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with Cluster(targets=3, closing_delay=0.02) as cluster:
        client = Client(cluster.endpoint, timeout=(3, 20))
        yield client
        client._request_client.session_manager.session.close()


@pytest.mark.parametrize("name", CALLS)
def test_call(client: Any, tmp_path: Path, name: str) -> None:
    bucket = client.bucket(name[:60]).create()
    CALLS[name](client, bucket, tmp_path)
    bucket.delete(missing_ok=True)


def test_there_are_at_least_60() -> None:
    assert len(CALLS) >= 60
