"""One exchange: building and reading heads, and a part of a file on its way through a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.micro.conftest import SIZE
from fastmpu._plan import PartRange
from fastmpu._source import resolve
from fastmpu._transport import BufferBody, Exchange, Origin, ScriptedStream, SocketStream
from fastmpu._transport.connection import Connection
from fastmpu._transport.exchange import Limits
from fastmpu._transport.request_head import RequestHead, write_head
from fastmpu._upload.part_body import PartBody
from fastmpu.ais.messages import BucketMessages

OK = b"HTTP/1.1 200 OK\r\nServer: drain\r\nContent-Length: 0\r\n\r\n"
ORIGIN = Origin("http", "127.0.0.1", 80)


def request(length: int) -> RequestHead:
    message = BucketMessages("ais", "", "bench", "ais://bench").object("some/object.bin").put_part("id-1", 7, {})
    headers = [(b"Host", b"127.0.0.1"), (b"User-Agent", b"fastmpu"), (b"Content-Length", b"%d" % length)]
    return write_head(message.method, message.target.encode(), headers)


def test_head_of_a_part(benchmark: Callable[..., object]) -> None:
    """From the upload id and the number to the request's bytes."""
    benchmark(request, SIZE)


def test_exchange_without_a_network(benchmark: Any) -> None:
    """A small request's head out, its answer's head in: what each of many small objects costs."""

    def prepared() -> tuple[tuple[Connection], dict[str, object]]:
        return (Connection(ScriptedStream([OK]), ORIGIN),), {}

    def exchange(connection: Connection) -> None:
        connection.exchange(request(5), BufferBody(b"hello"), Limits(), Exchange())

    benchmark.pedantic(exchange, setup=prepared, rounds=500)


@pytest.fixture
def drained() -> Iterator[Connection]:
    """A connection over loopback to a thread that reads requests of `SIZE` bytes, and answers each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()

    def drain() -> None:
        buffer = bytearray(1 << 20)
        with theirs:
            while head := theirs.recv(65536):
                left = SIZE - (len(head) - head.index(b"\r\n\r\n") - 4)
                while left:
                    left -= theirs.recv_into(buffer, min(left, len(buffer)))
                theirs.sendall(OK)

    thread = threading.Thread(target=drain, name="drain")
    thread.start()
    connection = Connection(SocketStream(ours), ORIGIN)
    yield connection
    connection.close()
    thread.join()


@pytest.mark.parametrize("checksums", [(), ("crc32c",)], ids=["unhashed", "crc32c"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_64_mib_window_by_window(
    benchmark: Callable[..., object],
    drained: Connection,
    data: bytes,
    path: Path,
    kind: str,
    checksums: tuple[str, ...],
) -> None:
    """Hash a piece, send it, until all is sent; the receiver is on the same two cores."""
    with resolve(path if kind == "file" else data, read="auto", on_change="error") as source:

        def send() -> None:
            body = PartBody(source, PartRange(1, 0, SIZE), checksums)
            drained.exchange(request(SIZE), body, Limits(), Exchange())

        benchmark(send)
