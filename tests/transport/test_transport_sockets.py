"""Exchanges over real sockets with peers that do not mean well."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import EMPTY, FULL, OK, Peer, Server, content_length, serve, silent_address, stream_of

from fastmpu._transport import (
    Body,
    BufferBody,
    Cancelled,
    Exchange,
    FileBody,
    Piece,
    ShortBody,
    SocketStream,
    ZeroCopyTransport,
)
from fastmpu._transport.connect import Connector, Origin

MIB = 1 << 20
BIG = 24 * MIB  # more than the kernel keeps between two sockets


@pytest.fixture
def transport() -> Iterator[ZeroCopyTransport]:
    with ZeroCopyTransport() as transport:
        yield transport
    assert "0 in use" in repr(transport)


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "data"
    path.write_bytes(os.urandom(BIG))
    return path


def put(
    transport: ZeroCopyTransport, url: str, body: Body | httpx.SyncByteStream, **extensions: Any
) -> tuple[int, bytes, Exchange]:
    exchange = extensions.setdefault("exchange", Exchange())
    response = transport.handle_request(httpx.Request("PUT", url, stream=stream_of(body), extensions=extensions))
    content = response.read()
    response.close()
    return response.status_code, content, exchange


def test_files_and_buffers_arrive_byte_for_byte(transport: ZeroCopyTransport, big_file: Path) -> None:
    received: list[bytes] = []

    def story(peer: Peer) -> None:
        for _ in range(3):
            received.append(peer.read_request())
            peer.send(OK)
        peer.done.wait(10)

    with Server(story) as server, big_file.open("rb") as file:
        assert put(transport, server.url, FileBody(file.fileno(), 7, BIG - 7))[:2] == (200, b"ok")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            put(transport, server.url, BufferBody(view))
            exchange = put(transport, server.url, httpx.ByteStream(b""))[2]
        assert server.connections == 1
    assert received == [big_file.read_bytes()[7:], big_file.read_bytes(), b""]
    assert exchange.reused


def test_sending_allocates_nothing_that_grows_with_the_body(transport: ZeroCopyTransport, big_file: Path) -> None:
    data = bytearray(64 * MIB)
    received = []

    def story(peer: Peer) -> None:
        while head := peer.read_head():
            peer.sink(content_length(head))
            received.append(head)
            peer.send(EMPTY)

    with Server(story) as server, big_file.open("rb") as file:
        put(transport, server.url, BufferBody(b"warm"))
        for body in (BufferBody(data), FileBody(file.fileno(), 0, BIG)):
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            put(transport, server.url, body)
            peak = tracemalloc.get_traced_memory()[1] - before
            tracemalloc.stop()
            assert peak < MIB
    assert len(received) == 3


def test_a_map_can_be_closed_by_the_body_as_soon_as_its_window_is_sent(
    transport: ZeroCopyTransport, big_file: Path
) -> None:
    class Windows(Body):
        length = BIG

        def pieces(self, in_memory: bool) -> Iterator[Piece]:
            for offset in range(0, BIG, 4 * MIB):
                with mmap.mmap(fd, 4 * MIB, access=mmap.ACCESS_READ, offset=offset) as window:
                    view = memoryview(window)
                    try:
                        yield view
                    finally:
                        view.release()

    def early(peer: Peer) -> None:
        peer.read_head()
        peer.read(6 * MIB)
        peer.send(FULL)
        peer.done.wait(10)

    with big_file.open("rb") as file:
        fd = file.fileno()
        with Server(serve()) as server:
            assert put(transport, server.url, Windows())[0] == 200
        with Server(early) as server:
            assert put(transport, server.url, Windows())[0] == 507


def test_large_answers_stream(transport: ZeroCopyTransport) -> None:
    data = os.urandom(5 * MIB)
    heads = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data,
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n",
    }
    with httpx.Client(transport=transport) as client:
        for answer in heads.values():
            with Server(serve(answer)) as server:
                for _ in range(2):
                    with client.stream("GET", server.url) as response:
                        assert b"".join(response.iter_bytes()) == data
                assert server.connections == 1


def test_an_answer_that_comes_in_single_bytes(transport: ZeroCopyTransport) -> None:
    def story(peer: Peer) -> None:
        while peer.read_head():
            peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    with Server(story) as server:
        for _ in range(3):
            assert put(transport, server.url, BufferBody(b""))[1] == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize("percent", [1, 50, 99])
@pytest.mark.parametrize("end", ["close", "reset", "stay", "read on"])
def test_an_early_refusal_is_the_answer(transport: ZeroCopyTransport, big_file: Path, percent: int, end: str) -> None:
    """Whether the server then closes, resets, or does nothing; with RST the answer may be lost, and then that shows."""

    def story(peer: Peer) -> None:
        peer.read_head()
        peer.read(BIG * percent // 100)
        peer.send(FULL)
        if end == "reset":
            # Time for the client to see the answer, as a server in another place has no power over it.
            peer.done.wait(0.2)
            peer.reset()
        elif end == "stay":
            peer.done.wait(10)
        elif end == "read on":
            peer.read_to_end()

    with Server(story) as server, big_file.open("rb") as file:
        exchange = Exchange()
        body = FileBody(file.fileno(), 0, BIG)
        status, content, _ = put(transport, server.url, body, exchange=exchange, timeout={"read": 10, "write": 10})
        assert (status, content) == (507, b"full")
        assert exchange.answered
        assert exchange.handed >= BIG * percent // 100
        assert "0 idle" in repr(transport)


def test_an_answer_lost_without_a_trace(transport: ZeroCopyTransport) -> None:
    """The request is whole, the server ends: nobody knows what became of it, and the record says just that."""

    def close(peer: Peer) -> None:
        peer.read_request()

    def reset(peer: Peer) -> None:
        peer.read_request()
        peer.reset()

    for story, error in ((close, httpx.RemoteProtocolError), (reset, httpx.ReadError)):
        exchange = Exchange()
        with Server(story) as server, pytest.raises(error, match=f"127.0.0.1:{server.port}"):
            put(transport, server.url, BufferBody(b"abc"), exchange=exchange, fence=5)
        assert exchange == Exchange(head_sent=True, handed=3)


def test_a_server_that_resets_in_the_middle_is_a_write_error(transport: ZeroCopyTransport, big_file: Path) -> None:
    def story(peer: Peer) -> None:
        peer.read_head()
        peer.read(MIB)
        peer.reset()

    exchange = Exchange()
    with Server(story) as server, big_file.open("rb") as file, pytest.raises(httpx.WriteError, match="sending"):
        put(transport, server.url, FileBody(file.fileno(), 0, BIG), exchange=exchange, fence=5)
    assert exchange.head_sent
    assert MIB <= exchange.handed < BIG
    assert not exchange.answered


def test_an_end_instead_of_an_answer_while_sending(transport: ZeroCopyTransport, big_file: Path) -> None:
    """The server ends its half but does not read: no answer can come any more, so sending stops."""

    def story(peer: Peer) -> None:
        peer.read_head()
        peer.socket.shutdown(socket.SHUT_WR)
        peer.done.wait(10)

    error = pytest.raises(httpx.RemoteProtocolError, match="without an answer")
    with Server(story) as server, big_file.open("rb") as file, error:
        put(transport, server.url, FileBody(file.fileno(), 0, BIG), timeout={"write": 10})


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(transport: ZeroCopyTransport) -> None:
    gone = threading.Event()

    def once(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.socket.shutdown(socket.SHUT_RDWR)
        gone.set()

    with Server(once) as server:
        for _ in range(3):
            gone.clear()
            assert put(transport, server.url, BufferBody(b"abc"))[2].reused is False
            assert gone.wait(10)
        assert server.connections == 3


def test_garbage_after_an_answer_is_never_taken_for_the_next_one(transport: ZeroCopyTransport) -> None:
    sent = threading.Event()

    def story(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        time.sleep(0.05)
        peer.send(FULL)
        sent.set()
        peer.done.wait(10)

    with Server(story, serve()) as server:
        assert put(transport, server.url, BufferBody(b"abc"))[0] == 200
        assert sent.wait(10)
        assert put(transport, server.url, BufferBody(b"abc"))[0] == 200
        assert server.connections == 2


def test_a_half_closed_request_is_answered_within_the_fence(transport: ZeroCopyTransport, big_file: Path) -> None:
    """Protocol H3: the stalled server sees the end of file and says what it makes of it."""
    seen: list[int] = []

    def story(peer: Peer) -> None:
        peer.read_head()
        stalled.wait(10)
        seen.append(peer.read_to_end())
        peer.send(b"HTTP/1.1 500 Cut\r\nContent-Length: 14\r\n\r\nunexpected EOF")

    stalled = threading.Event()
    threading.Timer(0.3, stalled.set).start()
    exchange = Exchange()
    with Server(story, receive_buffer=65536) as server, big_file.open("rb") as file:
        body = FileBody(file.fileno(), 0, BIG)
        status, content, _ = put(transport, server.url, body, exchange=exchange, fence=10, timeout={"write": 0.05})
    assert (status, content) == (500, b"unexpected EOF")
    assert exchange == Exchange(True, seen[0], True, 500, False, True)
    assert seen[0] < BIG


def test_a_fence_that_is_not_answered_ends_in_time(transport: ZeroCopyTransport) -> None:
    def story(peer: Peer) -> None:
        peer.read_request()
        peer.done.wait(10)

    exchange = Exchange()
    began = time.monotonic()
    with Server(story) as server, pytest.raises(httpx.ReadTimeout):
        put(transport, server.url, BufferBody(b"abc"), exchange=exchange, fence=0.1, timeout={"read": 0.1})
    assert time.monotonic() - began < 5
    assert exchange == Exchange(head_sent=True, handed=3, half_closed=True)


def test_a_trickle_resets_the_read_clock_but_not_the_fence(transport: ZeroCopyTransport) -> None:
    def story(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while not peer.done.wait(0.02):
            peer.send(b"A: b\r\n")

    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    with Server(story) as server, pytest.raises(Cancelled):
        put(transport, server.url, BufferBody(b"abc"), cancel=cancel, fence=0.1, timeout={"read": 0.25})
    assert 0.25 < time.monotonic() - began < 5


@pytest.mark.parametrize("answered", [True, False])
def test_cancel_in_the_middle_of_one_large_piece(transport: ZeroCopyTransport, big_file: Path, answered: bool) -> None:
    cancel = threading.Event()

    def story(peer: Peer) -> None:
        peer.read_head()
        peer.read(MIB)
        cancel.set()
        if answered:
            peer.read_to_end()
            peer.send(b"HTTP/1.1 500 Cut\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.done.wait(10)

    exchange = Exchange()
    with Server(story, receive_buffer=65536) as server, big_file.open("rb") as file, pytest.raises(Cancelled):
        put(transport, server.url, FileBody(file.fileno(), 0, BIG), cancel=cancel, fence=0.5, exchange=exchange)
    assert exchange.half_closed
    assert exchange.status == (500 if answered else None)
    assert MIB <= exchange.handed <= BIG


def test_cancel_while_waiting_for_the_answer(transport: ZeroCopyTransport) -> None:
    cancel = threading.Event()

    def story(peer: Peer) -> None:
        peer.read_request()
        cancel.set()
        assert peer.read_to_end() == 0
        peer.send(OK)

    exchange = Exchange()
    began = time.monotonic()
    with Server(story) as server, pytest.raises(Cancelled):
        put(transport, server.url, BufferBody(b"abc"), cancel=cancel, fence=5, exchange=exchange)
    assert time.monotonic() - began < 5
    assert exchange == Exchange(True, 3, True, 200, False, True)


def test_a_file_that_is_cut_while_it_is_sent_is_a_short_body(transport: ZeroCopyTransport, tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(BIG))
    rest = []

    def story(peer: Peer) -> None:
        peer.read_head()
        peer.read(MIB)
        os.truncate(path, BIG // 2)
        rest.append(peer.read_to_end())
        peer.send(b"HTTP/1.1 500 Cut\r\nContent-Length: 0\r\n\r\n")

    exchange = Exchange()
    error = pytest.raises(ShortBody, match=f"announced {BIG}")
    with Server(story, receive_buffer=65536) as server, path.open("rb") as file, error:
        put(transport, server.url, FileBody(file.fileno(), 0, BIG), fence=5, exchange=exchange)
    assert exchange == Exchange(True, BIG // 2, True, 500, False, True)
    assert rest == [BIG // 2 - MIB]


def test_a_file_that_cannot_be_read_is_the_callers_error(transport: ZeroCopyTransport, tmp_path: Path) -> None:
    """A descriptor that is open for writing only: sendfile and reading fail alike; it is not the network's fault."""
    with Server(serve()) as server, (tmp_path / "data").open("wb") as file:
        file.write(bytes(100))
        file.flush()
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            put(transport, server.url, FileBody(file.fileno(), 0, 100))
    assert not isinstance(caught.value, httpx.HTTPError)


def test_where_a_file_system_cannot_sendfile_it_is_read(
    transport: ZeroCopyTransport, big_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "not here")

    received: list[bytes] = []

    def story(peer: Peer) -> None:
        received.append(peer.read_request())
        peer.send(OK)

    monkeypatch.setattr(SocketStream, "send_file", refuse)
    with Server(story) as server, big_file.open("rb") as file:
        assert put(transport, server.url, FileBody(file.fileno(), 0, BIG))[2].handed == BIG
    assert received == [big_file.read_bytes()]


def test_nobody_there_is_a_connect_error_that_says_where(transport: ZeroCopyTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    exchange = Exchange()
    with pytest.raises(httpx.ConnectError, match=f"127.0.0.1:{port}: .*refused while connecting") as caught:
        put(transport, f"http://127.0.0.1:{port}/", BufferBody(b"abc"), exchange=exchange)
    assert exchange == Exchange()
    assert caught.value.request.method == "PUT"
    with pytest.raises(httpx.ConnectError, match="while connecting"):
        put(transport, "http://name.invalid/", BufferBody(b"abc"), timeout={"connect": 5})


def test_a_peer_that_does_not_pick_up_is_a_connect_timeout(transport: ZeroCopyTransport) -> None:
    with silent_address() as (host, port):
        url = f"http://{host}:{port}/"
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout, match="timed out while connecting"):
            put(transport, url, BufferBody(b""), timeout={"connect": 0.1})
        cancel = threading.Event()
        threading.Timer(0.1, cancel.set).start()
        with pytest.raises(Cancelled):
            put(transport, url, BufferBody(b""), cancel=cancel)
        assert time.monotonic() - began < 10


def test_every_address_of_a_name_is_tried(transport: ZeroCopyTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first refuses, the second does not pick up, the third answers, within one deadline."""
    with Server(serve()) as server, silent_address() as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
        closed.close()
        addresses = [refusing, silent, ("127.0.0.1", server.port)]
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
        assert put(transport, "http://target:1/", BufferBody(b"abc"), timeout={"connect": 1})[0] == 200


def test_a_peer_that_vanished_is_noticed_by_the_kernel() -> None:
    """While we send, and while we wait: neither would end by itself where no packet comes back (reliability 2B)."""
    wanted = {"TCP_USER_TIMEOUT": 7500, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    wanted = {name: value for name, value in wanted.items() if hasattr(socket, name)}  # Linux has them all
    with Server(serve()) as server:
        stream = Connector(dead_peer_seconds=7.5)(Origin("http", "127.0.0.1", server.port), 5.0, None)
        assert isinstance(stream, SocketStream)
        found = {name: stream._socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in wanted}
        alive = stream._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        stream.close()
    assert (alive, found) == (1, wanted)


def test_a_hundred_threads_share_one_transport() -> None:
    sizes: list[int] = []

    def story(peer: Peer) -> None:
        while head := peer.read_head():
            body = peer.read(content_length(head))
            sizes.append(len(body))
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(5):
            data = bytes([number]) * (number * 37 + turn)
            if put(transport, server.url, BufferBody(data))[:2] != (200, data):
                wrong.append((number, turn))

    with Server(story) as server, ZeroCopyTransport(max_idle=8) as transport:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(sizes) == 500
        assert server.connections <= 500
        assert repr(transport) == "<ZeroCopyTransport <ConnectionPool 8 idle at 1 origins, 0 in use>>"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
def test_no_failure_leaves_a_socket_behind(big_file: Path) -> None:
    def reset(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    def nonsense(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"nonsense\r\n\r\n")

    def short(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")

    def silent(peer: Peer) -> None:
        peer.done.wait(10)

    stories: list[Callable[[Peer], None]] = [reset, nonsense, short, silent, serve(FULL)]
    before = open_descriptors()
    with Server(*stories) as server, ZeroCopyTransport() as transport, big_file.open("rb") as file:
        for _ in stories:
            try:
                put(transport, server.url, FileBody(file.fileno(), 0, BIG), timeout={"read": 0.1, "write": 0.1})
            except httpx.TransportError:
                pass
    assert open_descriptors() == before
