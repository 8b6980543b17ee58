"""The mock's sink, which has to be faster than what is measured against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._sizes import MiB


@pytest.fixture
def target() -> Iterator[fastmpu.Object]:
    with mock.Cluster(sink=True) as cluster, fastmpu.Client(cluster.endpoint) as client:
        yield client.bucket("bench").create().object("object")


def test_64_mib_into_the_sink(benchmark: Callable[..., object], target: fastmpu.Object, path: Path) -> None:
    """In this process: client, mock and their threads."""
    benchmark(target.upload, path, part_size=16 * MiB, max_concurrency=4, checksum="none", journal="off")
