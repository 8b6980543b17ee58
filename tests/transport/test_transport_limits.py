"""What a server may answer, at each limit and one beyond it; and heads whose body is withheld."""

from __future__ import annotations

import httpx
import pytest
from loopback import OK, Peer, Server, serve

from fastmpu._transport import BodyStream, BufferBody, Exchange, Reply, ScriptedStream, WithheldBody, ZeroCopyTransport

KiB = 1024
START = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
END = b"\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def get(answer: bytes | Reply) -> httpx.Response:
    with ZeroCopyTransport(connect=ScriptedStream.connector([answer])) as transport:
        request = httpx.Request("GET", "http://h/x", extensions={"timeout": {"read": 0.1}})
        response = transport.handle_request(request)
        response.read()
        return response


def filled(size: int) -> bytes:
    """A head of `size` bytes."""
    begin = START + b"X: "
    return begin + b"y" * (size - len(begin) - len(END)) + END


def fields(count: int) -> bytes:
    return START + b"".join(b"X-%d: y\r\n" % number for number in range(count - 1)) + b"\r\n"


@pytest.mark.parametrize("answer", [filled(64 * KiB), fields(128), GO_ON * 8 + START + b"\r\n"])
def test_just_within(answer: bytes) -> None:
    assert get(answer).status_code == 200


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (filled(64 * KiB + 1), "longer than 65536"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20), "longer than 65536"),
        (fields(129), "more than 128"),
        (GO_ON * 9 + START + b"\r\n", "more than 8 informational"),
        (START + b"Content-Encoding: gzip\r\n\r\n", "encoded"),
        (START + b"Content-Encoding: br, identity\r\n\r\n", "encoded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello", "no length"),
        (START + b"Content-Length: 0\r\n\r\n", "more than once"),
        (START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "more than once"),
        (START + b"X : y\r\n\r\n", None),
        (START + b"X: a\r\n b\r\n\r\n", "folded"),
        (START + b"X: a\nY: b\r\n\r\n", "carriage return"),
        (START + b"X: a\0b\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nx", None),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not HTTP/1"),
    ],
)
def test_beyond(answer: bytes, says: str | None) -> None:
    """A protocol error, or a timeout where only more bytes could tell; never a wrong answer."""
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadTimeout), match=says) as caught:
        get(answer)
    assert str(caught.value).isprintable()


def test_a_length_beyond_all_sense_is_not_allocated() -> None:
    """A petabyte is announced; what comes is read as it comes."""
    answer = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 1125899906842624\r\n\r\nabc", end="close")
    with pytest.raises(httpx.RemoteProtocolError, match="before its Content-Length"):
        get(answer)


# --- heads without their body -----------------------------------------------------------------------------------------


def ask(transport: ZeroCopyTransport, url: str, exchange: Exchange) -> httpx.Response:
    request = httpx.Request(
        "PUT",
        url,
        headers={"Expect": "100-continue"},
        stream=BodyStream(WithheldBody(1 << 30)),
        extensions={"timeout": {"read": 2}, "exchange": exchange},
    )
    response = transport.handle_request(request)
    response.read()
    return response


def test_a_head_alone_is_sent_and_its_connection_closed() -> None:
    """The length is announced, no byte of the body goes out, and nothing is sent after it on that connection."""
    heads: list[bytes] = []

    def proxy(peer: Peer) -> None:
        heads.append(peer.read_head())
        peer.send(b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\nLocation: http://t/\r\n\r\n")
        assert peer.read_to_end() == 0

    exchange = Exchange()
    with ZeroCopyTransport() as transport, Server(proxy) as server:
        assert ask(transport, server.url, exchange).status_code == 307
        assert "0 idle" in repr(transport.pool)
    assert b"content-length: 1073741824\r\n" in heads[0].lower()
    assert (exchange.head_sent, exchange.handed, exchange.status) == (True, 0, 307)


def test_a_server_that_wants_the_body_is_told_nothing_more() -> None:
    """100 Continue, where a redirect was expected: an error at once, not a wait for the clock."""

    def eager(peer: Peer) -> None:
        peer.read_head()
        peer.send(GO_ON)
        assert peer.read_to_end() == 0

    with (
        ZeroCopyTransport() as transport,
        Server(eager) as server,
        pytest.raises(httpx.RemoteProtocolError, match="wants the body"),
    ):
        ask(transport, server.url, Exchange())


def test_any_other_transport_says_that_it_cannot() -> None:
    with Server(serve(OK)) as server, httpx.HTTPTransport() as transport:
        request = httpx.Request(
            "PUT", server.url, headers={"Host": "h", "Content-Length": "5"}, stream=BodyStream(WithheldBody(5))
        )
        with pytest.raises(httpx.LocalProtocolError, match="without its body"):
            transport.handle_request(request)


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "X-Amz-Security-Token", "Cookie"])
def test_secret_fields_arrive(name: str) -> None:
    """They travel apart from the head, and are in it on the wire, once."""
    heads: list[bytes] = []

    def story(peer: Peer) -> None:
        for _ in range(2):
            heads.append(peer.read_head())
            peer.read(3)
            peer.send(OK)

    with ZeroCopyTransport() as transport, Server(story) as server:
        for _ in range(2):
            request = httpx.Request("PUT", server.url, headers={name: "abc def"}, stream=BodyStream(BufferBody(b"xyz")))
            assert transport.handle_request(request).read() == b"ok"
    for head in heads:
        assert head.lower().count(f"\r\n{name.lower()}: abc def\r\n".encode()) == 1
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1
