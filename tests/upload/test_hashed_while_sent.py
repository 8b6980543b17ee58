"""A part is hashed while it is sent, by the thread that sends it; nobody can tell by the outcome."""

from __future__ import annotations

import os
import random
import socket
import threading
from array import array
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import crc32c
import httpx
import pytest

import fastmpu
from fastmpu import mock
from fastmpu._plan import PartRange
from fastmpu._source import PartReader, Source, mapped_file, resolve
from fastmpu._transport import (
    BodyStream,
    ConnectionPool,
    Exchange,
    FileRange,
    Origin,
    Reply,
    ScriptedConnector,
    ScriptedStream,
    Wire,
    ZeroCopyTransport,
)
from fastmpu._transport import Cancelled as CancelledExchange
from fastmpu._upload import part_body
from fastmpu._upload.part_body import PartBody
from fastmpu._upload.process_messages import CELLS, Channel, Send
from fastmpu._upload.process_worker import Lane
from fastmpu.errors import Cancelled, SourceChangedError

MIB = 1 << 20
PART = 2 * MIB
DATA = random.Random(51).randbytes(3 * PART + MIB + 4_321)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "source.bin"
    made.write_bytes(DATA)
    return made


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
@pytest.mark.parametrize("engine", ["inline", "thread"])
def test_no_thread_but_the_one_that_sends(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, read: str, engine: str
) -> None:
    seen: set[str] = set()
    receipt = obj.upload(
        path,
        part_size=PART,
        max_concurrency=1,
        engine=engine,
        read=read,
        progress=lambda _: seen.update(names()),
    )
    assert seen <= {"fastmpu_0", "fastmpu-lease"}
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
    """From its first byte, however much of it was hashed before it failed."""
    cluster.faults.add(fault)
    receipt = obj.upload(
        path, part_size=PART, max_concurrency=1, retry=fastmpu.RetryPolicy(base=0.001), part_checksum="sha256"
    )
    assert receipt.attempts > len(receipt.parts)
    looks_right(obj, cluster, receipt)


def test_cancel_while_a_piece_is_on_its_way(obj: fastmpu.Object, cluster: mock.Cluster, path: Path) -> None:
    """Nothing goes on, and nothing is held."""
    cancel = threading.Event()
    cluster.faults.add("trickle(op=part, bytes_per_s=100000, times=always)")
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        obj.upload(path, part_size=PART, max_concurrency=1, cancel=cancel)
    assert names() == set()
    assert list(obj.bucket.list_uploads()) == []


# On a scripted stream, where what the kernel takes is known.

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
KIB = 1 << 10
SMALL = DATA[: 64 * KIB + 5]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 64 KiB and a bit, sent in pieces of 16 KiB, hashed 4 KiB at a time and 8 KiB behind, at most."""
    monkeypatch.setattr(part_body, "FILE_PIECE", 16 * KIB)
    monkeypatch.setattr(part_body, "LAG", 8 * KIB)
    monkeypatch.setattr(part_body, "HASH_STEP", 4 * KIB)
    made = tmp_path / "small.bin"
    made.write_bytes(SMALL)
    return made


class Watched(PartBody):
    """The one part of `source`: how far hashing stood after each of its steps, and how far sending. `then` is called
    before the first."""

    def __init__(
        self,
        source: Source,
        connect: ScriptedConnector,
        checksums: tuple[str, ...] = ("crc32c",),
        then: Callable[[], object] = bool,
    ):
        super().__init__(source, PartRange(1, 0, source.size), checksums)
        self.steps: list[tuple[int, int]] = []
        self._connect = connect
        self._then = then

    def _hash_some(self, reader: PartReader) -> None:
        if not self.steps:
            self._then()
        super()._hash_some(reader)
        sent = sum(piece.length for piece in self._connect.streams[0].sent if isinstance(piece, FileRange))
        self.steps.append((self._hashed, sent))


def send(connect: ScriptedConnector, body: PartBody, **extensions: object) -> int:
    """The answer's status."""
    with ZeroCopyTransport(connect=connect) as transport:
        request = httpx.Request(
            "PUT", "http://target/o", stream=BodyStream(body), extensions={"fence": 0.2, **extensions}
        )
        answer = transport.handle_request(request)
        answer.close()
    return answer.status_code


def test_a_kernel_that_is_full_is_time_to_hash(small: Path) -> None:
    """A step for each time that it is full, of what has been handed to it, until all of that is hashed."""
    connect = ScriptedStream.connector([OK], accept=1000)
    exchange = Exchange()
    with resolve(small) as source:
        body = Watched(source, connect)
        assert send(connect, body, exchange=exchange) == 200
    assert connect.streams[0].wire.endswith(SMALL)
    assert body.digests == {"crc32c": f"{crc32c.crc32c(SMALL):08x}"}
    assert body.steps[0] == (4 * KIB, 0)
    first = [sent for hashed, sent in body.steps if hashed <= 16 * KIB]
    assert len(first) == 4
    assert max(first) < 4 * KIB  # of the first piece, most of which had yet to go
    assert [hashed for hashed, _ in body.steps] == [*range(4 * KIB, 65 * KIB, 4 * KIB), len(SMALL)]
    assert exchange.source_seconds > 0


def test_a_kernel_that_is_never_full_is_not_far_ahead(small: Path) -> None:
    connect = ScriptedStream.connector([OK])
    with resolve(small) as source:
        body = Watched(source, connect)
        assert send(connect, body) == 200
    assert body.digests == {"crc32c": f"{crc32c.crc32c(SMALL):08x}"}
    assert body.steps[0] == (4 * KIB, 16 * KIB)  # sent first
    assert max(sent - hashed for hashed, sent in body.steps) < 8 * KIB + 16 * KIB


def test_what_lies_on_a_disk_is_hashed_first(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that waiting for the disk counts as reading, and a slow one is not taken for a slow network."""
    asked: list[int] = []

    def is_cached(part: mapped_file.FilePart, offset: int) -> bool:
        asked.append(offset)
        return offset < 32 * KIB  # the first two pieces are

    monkeypatch.setattr(mapped_file.FilePart, "is_cached", is_cached)
    connect = ScriptedStream.connector([OK])
    with resolve(small) as source:
        body = Watched(source, connect)
        assert send(connect, body) == 200
    assert body.digests == {"crc32c": f"{crc32c.crc32c(SMALL):08x}"}
    assert asked == [16 * KIB - 1, 32 * KIB - 1, 48 * KIB - 1, 64 * KIB - 1, len(SMALL) - 1]  # each piece's last byte
    assert (48 * KIB, 32 * KIB) in body.steps
    assert (64 * KIB, 48 * KIB) in body.steps
    assert body.steps[-1] == (len(SMALL), 64 * KIB)


@pytest.mark.parametrize("accept", [1000, None])
def test_without_a_checksum_there_is_nothing_to_do_meanwhile(small: Path, accept: int | None) -> None:
    connect = ScriptedStream.connector([OK], accept=accept)
    with resolve(small) as source:
        body = Watched(source, connect, checksums=())
        assert send(connect, body) == 200
    assert connect.streams[0].wire.endswith(SMALL)
    assert body.steps == []
    assert body.hexdigests() == {}


@pytest.mark.parametrize("answered", [True, False])
def test_a_file_that_is_short_while_the_kernel_is_full(small: Path, answered: bool) -> None:
    """The attempt is fenced, as for any source that fails: the target has half a part (protocol H3)."""
    refusal = Reply(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", after_half_close=True)
    connect = ScriptedStream.connector([refusal if answered else Reply()], accept=1000)
    exchange = Exchange()
    with resolve(small, read="pread") as source:
        body = Watched(source, connect, then=lambda: os.truncate(small, 10))
        with pytest.raises(SourceChangedError, match="nothing is left"):
            send(connect, body, exchange=exchange)
    assert connect.streams[0].half_closed
    assert connect.streams[0].closed
    assert exchange.answered is answered
    assert exchange.handed < len(SMALL)
    assert body.digests is None


def test_cancelled_while_the_kernel_is_full(small: Path) -> None:
    """Seen before the next step."""
    cancel = threading.Event()
    connect = ScriptedStream.connector([Reply()], accept=1000)
    with resolve(small) as source:
        body = Watched(source, connect, then=cancel.set)
        with pytest.raises(CancelledExchange):
            send(connect, body, cancel=cancel)
    assert len(body.steps) == 1
    assert connect.streams[0].half_closed


def test_an_attempt_that_ended_early_has_no_digests(small: Path) -> None:
    """If the part turns out to be stored all the same, it is read once more, for half a checksum is none."""
    late = Reply(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
    early = Reply(b"HTTP/1.1 507 x\r\nContent-Length: 0\r\n\r\n", at=20_000)
    with resolve(small) as source:
        body = PartBody(source, PartRange(1, 0, source.size), ("crc32c", "xxhash"))
        assert send(ScriptedStream.connector([late]), body) == 503
        assert body.digests is not None
        assert send(ScriptedStream.connector([early]), body) == 507
        assert body.digests is None
        assert body.hexdigests()["crc32c"] == f"{crc32c.crc32c(SMALL):08x}"
        assert body.hexdigests() is body.digests


def test_nothing_is_hashed_when_nobody_sends(small: Path) -> None:
    """Before the first piece, and after an attempt that ended early, whose reader is closed."""
    connect = ScriptedStream.connector([Reply(at=10_000, send_error=ConnectionResetError(), end="close")])
    with resolve(small) as source:
        body = Watched(source, connect)
        assert not body.while_blocked()
        with pytest.raises(httpx.NetworkError):
            send(connect, body)
        assert [hashed for hashed, _ in body.steps] == [4 * KIB]
        assert not body.while_blocked()


@pytest.mark.parametrize(
    ("reply", "told"), [(OK, True), (Reply(b"HTTP/1.1 507 x\r\nContent-Length: 0\r\n\r\n", at=20_000), False)]
)
def test_a_worker_process_tells_the_digests_of_whole_parts_only(small: Path, reply: bytes | Reply, told: bool) -> None:
    """Else half a checksum would pass for a part's, should that turn out to be stored all the same."""
    fields = [(b"Host", b"target"), (b"Content-Length", b"%d" % len(SMALL))]
    with resolve(small) as source, closing(ConnectionPool(ScriptedStream.connector([reply]))) as pool:
        part = PartRange(1, 0, source.size)
        ticket = Send(part, ("crc32c",), Origin("http", "target", 80), "PUT", b"/o", fields, {"fence": 0.2})
        cells = memoryview(array("Q", [0] * CELLS))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            threading.Thread(target=Lane(Channel(theirs), cells, source, Wire(pool), None, 1000).serve).start()
            channel = Channel(ours)
            channel.send(ticket)
            outcome = channel.receive()
            ours.shutdown(socket.SHUT_RDWR)
    assert outcome.checksums == ({"crc32c": f"{crc32c.crc32c(SMALL):08x}"} if told else None)
    assert outcome.head.status == (200 if told else 507)
