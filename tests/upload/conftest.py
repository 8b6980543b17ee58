"""A mock cluster per story, a tapped wire, and what an upload must not leave behind. `bench` holds the killing that
stories here share with the command; it lies beside `tests`, not installed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from interposer import Interposer

import fastmpu
from fastmpu import mock

# Behind everything else: `fastmpu` stays the installed one.
sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture
def cluster() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=3) as cluster:
        yield cluster


@pytest.fixture
def tap() -> Interposer:
    return Interposer()


@pytest.fixture
def tapped(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(cluster.endpoint, transport=tap, timeouts=fastmpu.Timeouts(fence=0.05)) as client:
        yield client


@pytest.fixture
def obj(tapped: fastmpu.Client) -> fastmpu.Object:
    """An object's name, in a bucket that exists."""
    return tapped.bucket("bucket").create().object("dir/name.bin")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where a story's journal is."""
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
def nothing_left(cluster: mock.Cluster, tap: Interposer) -> Iterator[None]:
    """The story leaves no thread, no open file, no busy connection and no stored byte behind, parts included."""
    threads, files = _threads(), _files()
    yield
    assert _threads() - threads == set()
    assert _files() - files == set()
    assert "0 in use" in repr(tap)
    assert cluster.stored_bytes == 0


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("fastmpu")}


def _files() -> set[str]:
    """Open files by descriptor and name. Sockets and memory files are left out: the cluster, in this process, has its
    own."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # the one that listed the directory
        if path.startswith("/") and not path.startswith(("/memfd:", "/dev/")):
            found.add(f"{descriptor} {path}")
    return found
