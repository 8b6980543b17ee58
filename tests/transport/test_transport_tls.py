"""Exchanges over TLS: who is trusted, and that all the rest stays true."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from loopback import FULL, OK, Peer, Server, serve, silent_address, stream_of

from fastmpu._transport import Body, BufferBody, Cancelled, Exchange, FileBody, ZeroCopyTransport
from fastmpu._transport.tls import TlsStream

BIG = 24 << 20


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def transport(authority: trustme.CA) -> Iterator[ZeroCopyTransport]:
    with ZeroCopyTransport(tls=trusting(authority)) as transport:
        yield transport


def put(
    transport: ZeroCopyTransport, url: str, body: Body | httpx.SyncByteStream, **extensions: object
) -> httpx.Response:
    response = transport.handle_request(httpx.Request("PUT", url, stream=stream_of(body), extensions=extensions))
    response.read()
    response.close()
    return response


def test_bodies_arrive_and_the_connection_is_kept(
    transport: ZeroCopyTransport, server_side: ssl.SSLContext, tmp_path: Path
) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "data").write_bytes(data)
    received: list[bytes] = []
    protocols: list[str | None] = []

    def story(peer: Peer) -> None:
        assert isinstance(peer.socket, ssl.SSLSocket)
        protocols.append(peer.socket.selected_alpn_protocol())
        for _ in range(2):
            received.append(peer.read_request())
            peer.drip(OK)
        peer.done.wait(10)

    exchange = Exchange()
    with Server(story, tls=server_side) as server, (tmp_path / "data").open("rb") as file:
        assert put(transport, server.url, FileBody(file.fileno(), 0, len(data))).text == "ok"
        assert put(transport, server.url, BufferBody(data), exchange=exchange).text == "ok"
    assert received == [data, data]
    assert protocols == ["http/1.1"]
    assert exchange == Exchange(True, len(data), True, 200, True, False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_answers_of_both_versions(authority: trustme.CA, version: ssl.TLSVersion) -> None:
    data = os.urandom(2_000_000)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.maximum_version = version
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    with Server(serve(answer), tls=context) as server, ZeroCopyTransport(tls=trusting(authority)) as transport:
        for _ in range(2):
            assert put(transport, server.url, BufferBody(b"")).content == data
        assert server.connections == 1


def test_a_stranger_and_a_wrong_name_get_nothing(
    transport: ZeroCopyTransport, authority: trustme.CA, server_side: ssl.SSLContext
) -> None:
    heads: list[bytes] = []
    elsewhere = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(elsewhere)
    exchange = Exchange()
    with Server(lambda peer: heads.append(peer.read_head()), tls=elsewhere) as server:
        with pytest.raises(httpx.ConnectError, match=r"127.0.0.1.*while connecting") as caught:
            put(transport, server.url, BufferBody(b"secret"), exchange=exchange)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    with (
        Server(lambda peer: heads.append(peer.read_head()), tls=server_side) as server,
        ZeroCopyTransport(tls=trusting(trustme.CA())) as suspicious,
        pytest.raises(httpx.ConnectError),
    ):
        put(suspicious, server.url, BufferBody(b"secret"))
    assert exchange == Exchange()
    assert heads == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_without_tls_is_a_connect_error(transport: ZeroCopyTransport, answer: bytes) -> None:
    def story(peer: Peer) -> None:
        peer.socket.recv(10)
        peer.send(answer)

    with Server(story) as server, pytest.raises(httpx.ConnectError):
        put(transport, server.url.replace("http:", "https:"), BufferBody(b""))


def test_a_handshake_that_hangs_is_a_connect_timeout(transport: ZeroCopyTransport) -> None:
    def story(peer: Peer) -> None:
        peer.done.wait(10)

    with Server(story) as server, pytest.raises(httpx.ConnectTimeout):
        put(transport, server.url.replace("http:", "https:"), BufferBody(b""), timeout={"connect": 0.1})


def test_a_silent_address_leaves_the_next_one_time_for_its_handshake(
    transport: ZeroCopyTransport, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(serve(), tls=server_side) as server, silent_address() as silent:
        infos = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (silent, ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
        assert put(transport, server.url, BufferBody(b""), timeout={"connect": 1}).text == "ok"


def test_an_early_refusal_is_the_answer(transport: ZeroCopyTransport, server_side: ssl.SSLContext) -> None:
    def story(peer: Peer) -> None:
        peer.read_head()
        peer.read(BIG // 2)
        peer.send(FULL)
        peer.done.wait(10)

    exchange = Exchange()
    with Server(story, tls=server_side) as server:
        response = put(transport, server.url, BufferBody(bytes(BIG)), exchange=exchange)
    assert (response.status_code, response.text) == (507, "full")
    assert BIG // 2 <= exchange.handed < BIG


def test_the_fence_ends_tls_and_is_answered(transport: ZeroCopyTransport, server_side: ssl.SSLContext) -> None:
    """The peer reads a proper end (close_notify), then answers: protocol H3 through TLS."""
    counts: list[int] = []

    def story(peer: Peer) -> None:
        counts.append(len(peer.read_request()))
        counts.append(peer.read_to_end())
        time.sleep(0.05)  # an answer in the very moment of the half-close may be lost, see TlsStream.half_close
        peer.send(OK)

    exchange = Exchange()
    with Server(story, tls=server_side) as server:
        response = put(transport, server.url, BufferBody(b"abc"), exchange=exchange, fence=5, timeout={"read": 0.05})
    assert response.text == "ok"
    assert counts == [3, 0]
    assert exchange == Exchange(True, 3, True, 200, False, True)


def test_cancel_with_a_full_kernel_cuts_the_stream(transport: ZeroCopyTransport, server_side: ssl.SSLContext) -> None:
    """No room for TLS's own end: the peer still learns that no more will come, and never takes the rest for whole."""
    cancel = threading.Event()
    cut: list[BaseException | int] = []

    def story(peer: Peer) -> None:
        peer.read_head()
        stuck.wait(10)
        try:
            cut.append(peer.read_to_end())
        except ssl.SSLError as error:
            cut.append(error)
            raise

    stuck = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    threading.Timer(0.4, stuck.set).start()
    exchange = Exchange()
    with Server(story, tls=server_side) as server, pytest.raises(Cancelled):
        put(transport, server.url, BufferBody(bytes(BIG)), exchange=exchange, cancel=cancel, fence=5)
    assert exchange.half_closed
    assert 0 < exchange.handed < BIG
    assert isinstance(cut[0], ssl.SSLError) or cut[0] <= exchange.handed  # type: ignore[operator]


def test_an_answer_whose_end_only_the_connection_tells_must_end_properly(
    transport: ZeroCopyTransport, server_side: ssl.SSLContext
) -> None:
    def proper(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall")
        assert isinstance(peer.socket, ssl.SSLSocket)
        peer.socket.unwrap()

    def cut(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall")
        peer.socket.settimeout(None)
        socket.socket.shutdown(peer.socket, socket.SHUT_RDWR)

    with Server(proper, cut, tls=server_side) as server:
        assert put(transport, server.url, BufferBody(b"")).text == "all"
        with pytest.raises(httpx.ReadError):
            put(transport, server.url, BufferBody(b""))


def test_a_connection_that_is_reset_before_tls_begins_is_closed() -> None:
    """Whatever the standard library has made of it by then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    number = ours.fileno()
    with pytest.raises(OSError, match="reset") as caught:
        TlsStream(ours, ssl.create_default_context(), "localhost")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    del caught  # with its traceback, which kept alive whatever was made
