"""One request at a time: another thread hashes what comes next, and nobody can tell by the outcome."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import crc32c
import pytest

import fastmpu
from fastmpu import mock
from fastmpu._upload import resources
from fastmpu.errors import Cancelled

MIB = 1 << 20
PART = 2 * MIB
DATA = random.Random(51).randbytes(3 * PART + MIB + 4_321)
HASHER = "fastmpu-hash_0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "source.bin"
    made.write_bytes(DATA)
    return made


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: 2)


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("fastmpu")}


def looks_right(obj: fastmpu.Object, cluster: mock.Cluster, receipt: fastmpu.Receipt) -> None:
    for part in receipt.parts:
        sent = DATA[part.offset : part.offset + part.length]
        assert part.checksums == {"crc32c": f"{crc32c.crc32c(sent):08x}"}
    assert receipt.checksum == f"crc32c:{crc32c.crc32c(DATA):08x}"
    assert receipt.verified == "head"
    assert obj.get_reader().read_all() == DATA
    assert cluster.truth.violations() == []
    assert names() == set()


@pytest.mark.parametrize("read", ["mmap", "pread"])
@pytest.mark.parametrize(
    ("cores", "options", "ahead"),
    [
        (2, {"max_concurrency": 1}, True),
        (1, {"max_concurrency": 1}, False),
        (2, {"max_concurrency": 1, "engine": "inline"}, False),
        (2, {"max_concurrency": 1, "checksum": "none"}, False),
        (2, {"max_concurrency": 2}, False),
        (2, {"max_concurrency": 9, "max_memory": "3MiB", "read": "mmap"}, True),
    ],
)
def test_who_hashes(
    obj: fastmpu.Object,
    cluster: mock.Cluster,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: str,
    cores: int,
    options: dict[str, object],
    ahead: bool,
) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: cores)
    seen: set[str] = set()
    receipt = obj.upload(
        path, part_size=PART, progress=lambda _: seen.update(names()), **{"read": read, "journal": "off", **options}
    )
    assert (HASHER in seen) is ahead
    if options.get("checksum") == "none":
        assert obj.get_reader().read_all() == DATA
        return
    assert receipt.stages.checksum > 0
    looks_right(obj, cluster, receipt)


@pytest.mark.parametrize(
    "fault",
    [
        "status(503, op=part, part=2)",
        "reset_at(op=part, part=2, byte=1000000)",
        "flip_bit(op=part, part=2, byte=1900000)",
    ],
)
def test_a_part_that_is_sent_again_is_hashed_again(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, fault: str
) -> None:
    """From its first byte, whatever was hashed ahead before it failed."""
    cluster.faults.add(fault)
    receipt = obj.upload(
        path, part_size=PART, max_concurrency=1, retry=fastmpu.RetryPolicy(base=0.001), part_checksum="sha256"
    )
    assert receipt.attempts > len(receipt.parts)
    looks_right(obj, cluster, receipt)


def test_a_thread_that_cannot_be_started_is_done_without(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the executor has queued the work by then, and must not do it later, beside what was done without it."""
    start = threading.Thread.start
    refused: list[str] = []

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == HASHER and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    receipt = obj.upload(path, part_size=PART, max_concurrency=1)
    assert refused == [HASHER]
    assert receipt.attempts == len(receipt.parts)
    looks_right(obj, cluster, receipt)


def test_cancel_while_a_piece_is_on_its_way(obj: fastmpu.Object, cluster: mock.Cluster, path: Path) -> None:
    """The body ends after what is being hashed; then the source is let go."""
    cancel = threading.Event()
    cluster.faults.add("trickle(op=part, bytes_per_s=100000, times=always)")
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        obj.upload(path, part_size=PART, max_concurrency=1, cancel=cancel)
    assert names() == set()
    assert list(obj.bucket.list_uploads()) == []


def test_an_uploader_of_one_lane(obj: fastmpu.Object, cluster: mock.Cluster, path: Path) -> None:
    """Its large sources, one after the other, and then the thread ends with it."""
    seen: set[str] = set()
    with fastmpu.Uploader(obj.bucket.client, part_size=PART, max_concurrency=1) as uploader:
        small = uploader.submit(b"small", f"{obj.bucket.uri}/small")
        large = {
            name: uploader.submit(path, f"{obj.bucket.uri}/{name}", progress=lambda _: seen.update(names()))
            for name in ("one", "two")
        }
    assert small.result().verified == "head"
    assert HASHER in seen
    for name, transfer in large.items():
        looks_right(obj.bucket.object(name), cluster, transfer.result())
