"""The journal fails in the middle of an upload, which goes on without, and is then killed: what nobody noted is never
sent on suspicion.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastmpu
from bench import killed_upload
from bench.killed_upload import meddled
from fastmpu import mock
from fastmpu._upload import job_log
from fastmpu._upload.journal import Journal

from .test_resume import stopped

PART, IN_FLIGHT, PARTS = killed_upload.PART_SIZE, killed_upload.IN_FLIGHT, 14
LARGE = 8 * 1024 * 1024  # more than the kernel takes from a process that is killed
CONTENT = random.Random(61).randbytes((PARTS - 1) * PART + 999)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def slow() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=1, closing_delay=0.02, link=mock.Link(bandwidth_per_node=6e6)) as cluster:
        cluster.bucket("bucket")
        yield cluster


def killed_at(
    cluster: mock.Cluster, path: Path, notes: Path, engine: str, event: int, *, stored: int, part_size: int = PART
) -> None:
    """An upload whose journal fails at its write `event`, and which is killed when so many parts are stored."""
    command = [sys.executable, killed_upload.__file__, cluster.endpoint, path, notes, engine, event, "full"]
    process = subprocess.Popen([*map(str, command), "", str(part_size)], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        if len(cluster.truth.attempts(op="part", outcome="stored")) >= stored:
            break
        time.sleep(0.002)
    process.kill()
    process.wait()
    cluster.truth.wait_until_quiet(1.0)


def resumed(cluster: mock.Cluster, path: Path, notes: Path, engine: str, part_size: int = PART) -> fastmpu.Receipt:
    """The same call again, and what it promises."""
    options: dict[str, Any] = {"journal": str(notes), "part_size": part_size, "max_concurrency": IN_FLIGHT}
    receipt = fastmpu.upload(path, killed_upload.TARGET, endpoint=cluster.endpoint, engine=engine, **options)
    assert receipt.verified == "head"
    assert cluster.bucket("bucket").read("object") == path.read_bytes()
    assert [each for each in cluster.truth.violations() if not each.startswith("abort of")] == []
    return receipt


@pytest.mark.parametrize("engine", ["inline", "thread"])
@pytest.mark.parametrize("event", range(1, 6))
def test_a_journal_that_fails_and_then_a_kill(
    slow: mock.Cluster, path: Path, notes: Path, event: int, engine: str
) -> None:
    """At each early write, killed near and far from there: proved, and no part was stored twice."""
    for stored in (event, event + 3, PARTS - 3):
        killed_at(slow, path, notes, engine, event, stored=stored)
        resumed(slow, path, notes, engine)
        with fastmpu.Client(slow.endpoint) as client:
            client.bucket("bucket").object("object").delete()
        slow.truth.clear()


@pytest.mark.parametrize("engine", ["inline", "thread"])
@pytest.mark.parametrize("missing", [2, 5])
def test_a_count_that_fits_by_accident(
    cluster: mock.Cluster, tmp_path: Path, notes: Path, missing: int, engine: str
) -> None:
    """Parts 2 to 5 are noted as begun, then the journal fails. One of them stays away, and part 6, which nobody noted,
    is stored: the count fits, and cannot tell. So the notes must not be believed."""
    cluster.bucket("bucket")
    path = tmp_path / "large.bin"
    path.write_bytes(b"".join(bytes([number]) * LARGE for number in range(1, 10)))
    stalled = [
        # Not "stall_at": on a connection that has carried a part the kernel may take all of the next one.
        cluster.faults.add("window_zero", byte=1000, ms="forever", op="part", part=each)
        for each in (missing, 7, 8)
    ]
    killed_at(cluster, path, notes, "thread", 3, stored=4, part_size=LARGE)
    for each in stalled:
        each.remove()
    assert cluster.truth.wait_until_quiet()
    assert {each.part for each in cluster.truth.attempts(outcome="stored")} == {2, 3, 4, 5, 6} - {missing}
    assert resumed(cluster, path, notes, engine, LARGE).resumed == 0


@pytest.mark.parametrize("flush", [0.0, 60.0], ids=["an acknowledgement", "a beginning"])
@pytest.mark.parametrize("engine", ["inline", "thread"])
def test_where_nobody_can_be_told(
    obj: fastmpu.Object,
    cluster: mock.Cluster,
    path: Path,
    notes: Path,
    engine: str,
    flush: float,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The whole file system went read-only, which is seen when the one or the other is noted. No part that is not noted
    follows under the noted upload id: the object starts again under another one, and the notes that stay are true."""

    truncate = os.ftruncate

    def read_only(fd: int, length: int) -> None:
        if not length:
            raise OSError(errno.EROFS, "Read-only file system")
        truncate(fd, length)

    def not_unlinked(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", not_unlinked)
    monkeypatch.setattr(job_log, "FLUSH_SECONDS", flush)
    monkeypatch.setattr(os, "ftruncate", read_only)
    monkeypatch.setattr(Journal, "update", meddled(Journal.update, 2, "full", [0]))
    receipt = obj.upload(path, part_size=PART, max_concurrency=IN_FLIGHT, engine=engine, journal=str(notes))
    assert (receipt.restarts, receipt.verified) == (1, "head")
    assert caplog.text.count("cannot be resumed") == 1
    store = Journal(notes)
    ((row, entry),) = store.entries()
    noted = set(store.parts(row, entry))
    store.close()
    assert entry.upload_id != receipt.upload_id
    sent = {each.part for each in cluster.truth.attempts(op="part", upload_id=entry.upload_id)}
    assert sent <= noted
    assert obj.get_reader().read_all() == CONTENT


def test_parts_that_are_kept_without_notes(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that fails after its journal did, and is to be kept, is not gone on with, either."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "update", meddled(Journal.update, 2, "full", [0]))
        stopped(obj, path, notes, at=9)
    receipt = obj.upload(path, part_size=PART, engine="inline", journal=str(notes))
    assert (receipt.resumed, receipt.verified) == (0, "head")
    assert cluster.truth.violations() == []
