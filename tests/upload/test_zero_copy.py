"""No copy of the data in user space: memory does not even grow by one window of what is sent.

Tried by hand, to know that these tests can fail: with `yield memoryview(bytes(view))` for `yield view` in
`_upload/part_body.py`, and with `send(memoryview(bytes(rest)))` in `_transport/connection.py`, the allocation tests
for buffers and those that look at addresses fail; with `os.pread` of some MiB for `preadv` into the reader's one
buffer, that for `pread` does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import fastmpu
from fastmpu import _transport, mock
from fastmpu._transport import Body, BodyStream, Piece, SocketStream, ZeroCopyTransport

MIB = 1 << 20
SIZE = 64 * MIB
ALLOWED = 400 * 1024  # less than the window of 512 KiB; all that is no data takes some 100 KiB
ALLOWED_BY_PREAD = 2 * MIB  # a window for each of two workers, and as much again


@pytest.fixture(scope="module")
def array() -> numpy.ndarray[Any, Any]:
    return numpy.random.default_rng(8).integers(0, 256, SIZE, dtype=numpy.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, array: numpy.ndarray[Any, Any]) -> Path:
    path: Path = tmp_path_factory.mktemp("zero-copy") / "source.bin"
    array.tofile(path)
    return path


@pytest.fixture
def elsewhere() -> Iterator[fastmpu.Object]:
    """An object on a cluster in a process of its own: the mock's allocations are not the client's."""
    command = [sys.executable, "-m", "fastmpu", "mock", "--json", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        with fastmpu.Client(endpoint) as client:
            yield client.bucket("b").create().object("o")
        process.terminate()


SOURCES: dict[str, Callable[[Any, Path], Any]] = {
    "ndarray": lambda array, path: array.view(numpy.float32).reshape(4096, -1),
    "bytes": lambda array, path: array.tobytes(),
    "bytearray": lambda array, path: bytearray(array),
    "file": lambda array, path: path,
}


@pytest.mark.parametrize("engine", ["inline", "thread"])
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("part_size", ["16MiB", "64MiB"], ids=["parts", "whole"])
def test_an_upload_allocates_next_to_nothing(
    elsewhere: fastmpu.Object, array: numpy.ndarray[Any, Any], stored: Path, kind: str, engine: str, part_size: str
) -> None:
    """64 MiB, hashed and sent: not one window of them is ever copied into Python's memory."""
    source = SOURCES[kind](array, stored)
    elsewhere.upload(b"x" * 3000, part_size=1000)  # what is made once: connections, caches, lazy imports
    tracemalloc.start()
    try:
        receipt = elsewhere.upload(source, part_size=part_size, engine=engine, max_concurrency=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert receipt.size == SIZE
    assert receipt.verified == "head"
    assert peak < (ALLOWED_BY_PREAD if receipt.read == "pread" else ALLOWED)


def test_pread_uses_one_window_per_worker(elsewhere: fastmpu.Object, stored: Path) -> None:
    """Without a map the bytes to hash pass through one reused buffer of half a MiB for each part in flight."""
    tracemalloc.start()
    try:
        elsewhere.upload(stored, part_size="8MiB", read="pread", max_concurrency=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ALLOWED_BY_PREAD


@pytest.mark.parametrize("by_hand", [False, True], ids=["put", "put_content"])
def test_puts_by_hand_allocate_next_to_nothing(
    elsewhere: fastmpu.Object, array: numpy.ndarray[Any, Any], by_hand: bool
) -> None:
    """The same for the SDK's verbs."""
    elsewhere.put(b"warm")
    mpu = elsewhere.multipart_upload().create()
    mpu.add_part(2).put_content(b"warm")
    tracemalloc.start()
    try:
        if by_hand:
            mpu.add_part(1).put_content(array)
        else:
            elsewhere.put(array)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    mpu.abort()
    assert peak < ALLOWED


class Recorder(ZeroCopyTransport):
    """Notes the address of every piece that bodies of parts hand out."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[tuple[int, int]] = []
        self.files = 0

    def handle_request(self, request: Any) -> Any:
        if isinstance(request.stream, BodyStream) and request.stream.body.length > 1000:
            request.stream = BodyStream(_Seen(request.stream.body, self))
        return super().handle_request(request)


class _Seen(Body):
    def __init__(self, body: Body, recorder: Recorder):
        self.length = body.length
        self._body = body
        self._recorder = recorder

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        for piece in self._body.pieces(in_memory):
            if isinstance(piece, memoryview):
                at = numpy.frombuffer(piece, dtype=numpy.uint8).ctypes.data
                self._recorder.addresses.append((at, piece.nbytes))
            else:
                self._recorder.files += 1
            yield piece


def test_the_kernel_gets_the_callers_own_buffer(cluster: mock.Cluster) -> None:
    """Every piece lies within the array itself, and they cover it once; by `upload` and by `put_content` alike."""
    array = numpy.arange(MIB, dtype=numpy.uint32)
    start = array.ctypes.data
    with fastmpu.Client(cluster.endpoint, transport=(recorder := Recorder())) as client:
        obj = client.bucket("b").create().object("o")
        for send in (
            lambda: obj.upload(array, part_size=MIB),
            lambda: obj.put(array),
            lambda: obj.multipart_upload().create().add_part(1).put_content(array),
        ):
            recorder.addresses.clear()
            send()
            at = start
            for address, length in sorted(recorder.addresses):
                assert address == at
                at += length
            assert at == start + array.nbytes


def test_a_file_goes_from_the_page_cache_to_the_socket(cluster: mock.Cluster, tmp_path: Path) -> None:
    """Over plain HTTP the body of a file is ranges for sendfile, never memory; hashed or not."""
    path = tmp_path / "source"
    path.write_bytes(bytes(3 * MIB))
    with fastmpu.Client(cluster.endpoint, transport=(recorder := Recorder())) as client:
        obj = client.bucket("b").create().object("o")
        for checksum in ("auto", "none"):
            recorder.files = 0
            obj.upload(path, part_size=MIB, checksum=checksum)
            assert recorder.addresses == []
            assert recorder.files >= 3


def test_the_socket_gets_views_and_no_bytes(cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer below: what `socket.send` is called with is a view of the source, in the sending thread."""
    array = numpy.arange(MIB, dtype=numpy.uint8)
    seen: list[object] = []
    lock = threading.Lock()
    real = SocketStream.send

    def send(self: SocketStream, view: memoryview, more: bool = False) -> int | None:
        if view.nbytes > 10_000:
            with lock:
                seen.append(view.obj)
        return real(self, view, more)

    monkeypatch.setattr(_transport.SocketStream, "send", send)
    with fastmpu.Client(cluster.endpoint) as client:
        client.bucket("b").create().object("o").upload(array, part_size=MIB // 4)
    assert seen
    assert all(not isinstance(each, bytes) for each in seen)
