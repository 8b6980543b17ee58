"""Exchanges on a scripted stream: what exactly goes out, what is accepted back, and what is left on record."""

from __future__ import annotations

import array
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import EMPTY, FULL, OK, stream_of

from fastmpu._transport import (
    Body,
    BodyStream,
    BufferBody,
    Cancelled,
    Exchange,
    FileBody,
    FileRange,
    Piece,
    Reply,
    ScriptedConnector,
    ScriptedStream,
    ShortBody,
    ZeroCopyTransport,
)

URL = "http://target:8081/v1/objects/b/o?partNumber=1"


class Pieces(Body):
    """Whatever the test wants, and whether it was closed."""

    def __init__(self, length: int, *pieces: Piece | Exception):
        self.length = length
        self.closed = False
        self._pieces = pieces

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        try:
            for piece in self._pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True


def send(connect: ScriptedConnector, body: Body | httpx.SyncByteStream | None = None, **options: Any) -> httpx.Response:
    """One request on a transport of its own, its answer read whole."""
    method = options.pop("method", "PUT")
    headers = options.pop("headers", None)
    with ZeroCopyTransport(connect=connect) as transport:
        request = httpx.Request(
            method, URL, stream=stream_of(body or BufferBody(b"")), headers=headers, extensions=options
        )
        response = transport.handle_request(request)
        response.read()
        response.close()
        return response


# What goes out


def test_the_head_is_what_was_asked_for_and_what_http_needs() -> None:
    connect = ScriptedStream.connector([OK])
    response = send(connect, BufferBody(b"12345"), headers={"ais-checksum-type": "crc32c"})
    assert response.status_code == 200
    assert response.content == b"ok"
    assert response.extensions == {"http_version": b"HTTP/1.1", "reason_phrase": b"OK"}
    assert bytes(connect.streams[0].wire) == (
        b"PUT /v1/objects/b/o?partNumber=1 HTTP/1.1\r\nHost: target:8081\r\nais-checksum-type: crc32c\r\n"
        b"Accept-Encoding: identity\r\nContent-Length: 5\r\n\r\n12345"
    )


def test_target_host_and_encoding_of_the_caller_are_kept() -> None:
    connect = ScriptedStream.connector([OK])
    send(connect, method="GET", headers={"Host": "elsewhere", "Accept-Encoding": "br"}, target=b"/a%2Fb?x")
    assert connect.streams[0].wire.startswith(b"GET /a%2Fb?x HTTP/1.1\r\nHost: elsewhere\r\nAccept-Encoding: br\r\n")


def test_the_kernel_gets_the_callers_own_memory() -> None:
    original = bytearray(b"x" * 5_000_000)
    connect = ScriptedStream.connector([OK])
    send(connect, BufferBody(original))
    _, *sent = connect.streams[0].sent
    assert all(isinstance(view, memoryview) and view.obj is original for view in sent)
    assert sum(len(view) for view in sent) == len(original)


def test_the_kernel_gets_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 100)
    connect = ScriptedStream.connector([OK])
    with path.open("rb") as file:
        send(connect, FileBody(file.fileno(), 100, 20_000))
        assert connect.streams[0].sent[1:] == [FileRange(file.fileno(), 100, 20_000)]
        assert file.tell() == 0
    assert connect.streams[0].wire.endswith(path.read_bytes()[100:20_100])


def test_a_small_body_in_memory_goes_with_its_head() -> None:
    """In one call of the kernel, which may take it in pieces: the body's own bytes are those that are counted."""
    exchange = Exchange()
    connect = ScriptedStream.connector([OK])
    send(connect, BufferBody(bytes(64 << 10)), exchange=exchange)
    assert len(connect.streams[0].sent) == 1
    assert exchange == Exchange(head_sent=True, handed=64 << 10, answered=True, status=200)

    connect = ScriptedStream.connector([OK])
    send(connect, BufferBody(bytes((64 << 10) + 1)))
    assert len(connect.streams[0].sent) == 2

    exchange = Exchange()
    connect = ScriptedStream.connector([OK], accept=7)
    send(connect, BufferBody(bytes(1000)), exchange=exchange)
    assert connect.streams[0].wire.endswith(b"\r\n\r\n" + bytes(1000))
    assert exchange.handed == 1000


def test_where_the_kernel_cannot_take_files_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(700_000))
    connect = ScriptedStream.connector([OK], send_file=False)
    with path.open("rb") as file:
        send(connect, FileBody(file.fileno(), 1, 600_000))
    assert connect.streams[0].wire.endswith(b"\r\n\r\n" + path.read_bytes()[1:600_001])
    assert all(isinstance(piece, memoryview) for piece in connect.streams[0].sent)


@pytest.mark.parametrize("send_file", [True, False])
def test_a_kernel_that_takes_little_and_often_nothing_gets_it_all(tmp_path: Path, send_file: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(1000))
    exchange = Exchange()
    connect = ScriptedStream.connector([OK], accept=7, send_file=send_file)
    with path.open("rb") as file:
        send(connect, FileBody(file.fileno(), 0, 1000), exchange=exchange)
    assert connect.streams[0].wire.endswith(b"\r\n\r\n" + path.read_bytes())
    assert exchange == Exchange(head_sent=True, handed=1000, answered=True, status=200)


def test_any_contiguous_buffer_is_its_bytes_and_nothing_else_is_a_body() -> None:
    numbers = array.array("d", [1.5, 2.5])
    connect = ScriptedStream.connector([OK])
    send(connect, BufferBody(numbers))
    assert connect.streams[0].wire.endswith(b"\r\n\r\n" + numbers.tobytes())
    with pytest.raises(TypeError):
        BufferBody(memoryview(b"abcdef")[::2])
    doubles = Pieces(16, memoryview(numbers))
    connect = ScriptedStream.connector([OK])
    send(connect, doubles)
    assert connect.streams[0].wire.endswith(b"\r\n\r\n" + numbers.tobytes())


def test_streams_of_httpx_go_out_with_their_length_or_in_chunks() -> None:
    def three() -> Iterator[bytes]:
        yield from (b"abc", b"", b"defgh")

    connect = ScriptedStream.connector([OK, OK])
    exchange = Exchange()
    with httpx.Client(transport=ZeroCopyTransport(connect=connect)) as client:
        assert client.put(URL, content=b"plain").text == "ok"
        assert client.put(URL, content=three(), extensions={"exchange": exchange}).text == "ok"
    plain, chunked = bytes(connect.streams[0].wire).split(b"PUT ")[1:]
    assert plain.endswith(b"\r\n\r\nplain")
    assert chunked.endswith(b"\r\n\r\n3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n")
    assert (exchange.handed, exchange.reused) == (8, True)


@pytest.mark.parametrize("body", [BufferBody(b"ab" * 1_500_000), Pieces(4, memoryview(b"ab"), memoryview(b"cd"))])
def test_a_body_also_works_with_any_other_transport(body: Body) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=str(len(request.read())))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert client.send(httpx.Request("PUT", URL, stream=BodyStream(body))).text == str(body.length)
    with pytest.raises(ShortBody):
        list(Pieces(5, memoryview(b"abc")))
    with pytest.raises(ShortBody):
        list(Pieces(2, memoryview(b"abc")))
    with pytest.raises(TypeError):
        list(Pieces(2, FileRange(0, 0, 2)))


@pytest.mark.parametrize(
    ("method", "headers", "body", "options"),
    [
        ("PUT", [("Content-Length", "3"), ("Transfer-Encoding", "chunked")], BufferBody(b"abc"), {}),
        ("PUT", [("Content-Length", "3"), ("Content-Length", "3")], BufferBody(b"abc"), {}),
        ("PUT", [("Content-Length", "4")], BufferBody(b"abc"), {}),
        ("PUT", [("Content-Length", "-3")], httpx.ByteStream(b"abc"), {}),
        ("PUT", [("Transfer-Encoding", "chunked")], BufferBody(b"abc"), {}),
        ("PUT", [("Transfer-Encoding", "gzip")], httpx.ByteStream(b"abc"), {}),
        ("PUT", [], httpx.ByteStream(b"abc"), {}),
        ("PUT", [("X-Evil", "a\r\nContent-Length: 3")], BufferBody(b"abc"), {}),
        ("PUT", [("X-Evil", "a\0")], BufferBody(b"abc"), {}),
        ("GET", [], BufferBody(b""), {"target": b"/a b"}),
        ("GET", [], BufferBody(b""), {"target": b"/a\r\nX: y"}),
        ("CONNECT", [], BufferBody(b""), {}),
        ("GET", [("Upgrade", "h2c")], BufferBody(b""), {}),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_before_anything_is_sent(
    method: str, headers: list[tuple[str, str]], body: Body | httpx.SyncByteStream, options: dict[str, Any]
) -> None:
    connect = ScriptedStream.connector([OK])
    with pytest.raises(httpx.LocalProtocolError, match="target:8081"):
        send(connect, body, method=method, headers=headers, **options)
    assert connect.streams == []


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://target", b"target"),
        ("http://target:80", b"target"),
        ("https://target:443", b"target"),
        ("https://target:80", b"target:80"),
        ("http://[::1]", b"[::1]"),
        ("http://[::1]:8080", b"[::1]:8080"),
    ],
)
def test_a_host_has_the_port_only_if_it_is_not_the_schemes_own(url: str, host: bytes) -> None:
    """RFC 9110, section 7.2."""
    connect = ScriptedStream.connector([OK])
    with ZeroCopyTransport(connect=connect) as transport:
        transport.handle_request(httpx.Request("GET", url, headers=[("X", "y")], stream=stream_of(BufferBody(b""))))
    assert host == connect.streams[0].wire.partition(b"Host: ")[2].partition(b"\r\n")[0]


def test_other_schemes_and_asynchronous_streams_are_refused() -> None:
    class Async(httpx.AsyncByteStream):
        pass

    with ZeroCopyTransport(connect=ScriptedStream.connector()) as transport:
        with pytest.raises(httpx.UnsupportedProtocol):
            transport.handle_request(httpx.Request("GET", "ftp://target/x"))
        with pytest.raises(httpx.LocalProtocolError):
            transport.handle_request(httpx.Request("GET", URL, stream=Async()))
    with ZeroCopyTransport() as transport, pytest.raises(httpx.UnsupportedProtocol, match="tls="):
        transport.handle_request(httpx.Request("GET", "https://127.0.0.1:1/x"))


# What comes back


@pytest.mark.parametrize("step", [1, 2, 3, None])
@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (OK, b"ok"),
        (EMPTY, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 100 \r\n\r\n" * 8 + OK, b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length:2 \r\nContent-Encoding: identity\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nabc\r\n0\r\n\r\n", b"okabc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\n0\r\nX-Trailer: y\r\n\r\n", b"o"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b""),
    ],
)
def test_a_whole_answer_however_it_is_cut(answer: bytes, content: bytes, step: int | None) -> None:
    connect = ScriptedStream.connector([Reply(answer, step=step)])
    assert send(connect, BufferBody(b"abc")).content == content


def test_a_head_request_has_no_body_and_the_connection_goes_on() -> None:
    connect = ScriptedStream.connector([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", OK])
    with httpx.Client(transport=ZeroCopyTransport(connect=connect)) as client:
        assert client.head(URL).headers["content-length"] == "1000"
        assert client.get(URL).text == "ok"
    assert len(connect.streams) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    ],
)
@pytest.mark.parametrize("step", [1, None])
def test_without_a_length_the_end_of_the_connection_is_the_end(answer: bytes, step: int | None) -> None:
    connect = ScriptedStream.connector([Reply(answer, step=step, end="close")])
    assert send(connect, method="GET").content == b"until the end"
    assert connect.streams[0].closed


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"!",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
    ],
)
def test_a_connection_with_anything_odd_about_it_is_not_used_again(answer: bytes) -> None:
    connect = ScriptedStream.connector([answer, OK])
    with httpx.Client(transport=ZeroCopyTransport(connect=connect)) as client:
        assert client.get(URL).text == "ok"
        assert connect.streams[0].closed
        assert client.get(URL).text == "ok"
    assert len(connect.streams) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\tA: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 129 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 65536 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokX",
    ],
)
@pytest.mark.parametrize("step", [1, None])
def test_what_is_no_clear_answer_is_an_error_and_ends_the_connection(answer: bytes, step: int | None) -> None:
    connect = ScriptedStream.connector([Reply(answer, step=step, end="close")])
    with pytest.raises(httpx.RemoteProtocolError, match="target:8081") as caught:
        send(connect, method="GET")
    assert caught.value.request.method == "GET"
    assert connect.streams[0].closed


@pytest.mark.parametrize(
    ("answer", "answered", "words"),
    [
        (b"", False, "without an answer"),
        (b"HTTP/1.1 20", False, "in the middle of its answer's head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False, "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", True, "1 bytes before its Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", True, "incomplete chunked"),
    ],
)
def test_an_answer_that_is_cut_is_an_error(answer: bytes, answered: bool, words: str) -> None:
    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(answer, end="close")])
    with pytest.raises(httpx.RemoteProtocolError, match=words):
        send(connect, BufferBody(b"abc"), exchange=exchange)
    assert exchange == Exchange(head_sent=True, handed=3, answered=answered, status=200 if answered else None)


def test_a_reset_while_waiting_and_while_reading_is_a_read_error() -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"):
        connect = ScriptedStream.connector([Reply(answer, end=ConnectionResetError("reset"))])
        with pytest.raises(httpx.ReadError, match=r"target:8081: reset while (waiting for|reading) the answer"):
            send(connect, BufferBody(b"abc"))


def test_an_answer_that_is_not_read_costs_the_connection_only() -> None:
    connect = ScriptedStream.connector([Reply(OK, step=39), OK])
    with httpx.Client(transport=ZeroCopyTransport(connect=connect)) as client:
        with client.stream("GET", URL) as response:
            assert response.status_code == 200
        assert connect.streams[0].closed
        with pytest.raises(httpx.StreamClosed):
            list(response.stream)  # type: ignore[arg-type]
        assert client.get(URL).text == "ok"
    assert all(stream.closed for stream in connect.streams)


# When it does not go to plan


def test_an_early_answer_ends_sending(tmp_path: Path) -> None:
    for body in (BufferBody(b"x" * 100_000), httpx.ByteStream(b"x" * 100_000)):
        exchange = Exchange()
        connect = ScriptedStream.connector([Reply(FULL, at=5000, step=3)])
        response = send(connect, body, headers={"Content-Length": "100000"}, exchange=exchange)
        assert (response.status_code, response.content) == (507, b"full")
        assert 0 < exchange.handed < 5000
        assert exchange.status == 507
        assert connect.streams[0].closed


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_left_of_a_request_is_never_taken_for_the_next(chunked: bool) -> None:
    """The answer came first, and wishes to go on: half of a request is on that connection."""
    connect = ScriptedStream.connector([Reply(OK, at=5000), OK])
    data = b"x" * 100_000
    with ZeroCopyTransport(connect=connect) as transport:
        body = httpx.ByteStream(data) if chunked else BufferBody(data)
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        early = transport.handle_request(httpx.Request("PUT", URL, headers=headers, stream=stream_of(body)))
        assert early.read() == b"ok"
        assert transport.handle_request(httpx.Request("GET", URL)).read() == b"ok"
    assert len(connect.streams) == 2
    assert len(connect.streams[0].wire) < len(data)


@pytest.mark.parametrize("value", ["close", "x, Close"])
def test_a_request_that_asks_to_close_is_the_last(value: str) -> None:
    connect = ScriptedStream.connector([OK, OK])
    with ZeroCopyTransport(connect=connect) as transport:
        for _ in range(2):
            assert transport.handle_request(httpx.Request("GET", URL, headers={"Connection": value})).read() == b"ok"
    assert len(connect.streams) == 2


def test_a_body_whose_answer_came_early_is_closed() -> None:
    body = Pieces(8, memoryview(b"abcd"), memoryview(b"efgh"))
    head = len(b"PUT /v1/objects/b/o?partNumber=1 HTTP/1.1\r\nHost: target:8081\r\nAccept-Encoding: identity\r\n\r\n")
    connect = ScriptedStream.connector([Reply(FULL, at=head + len("Content-Length: 8\r\n") + 6)])
    assert send(connect, body).status_code == 507
    assert body.closed
    assert connect.streams[0].wire.endswith(b"\r\n\r\nabcdef")


@pytest.mark.parametrize("error", [BrokenPipeError("pipe"), ConnectionResetError("reset")])
@pytest.mark.parametrize("end", ["close", ConnectionResetError("eaten")])
def test_when_sending_breaks_the_answer_decides(error: OSError, end: str | OSError) -> None:
    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(FULL, at=500, send_error=error)])
    assert send(connect, BufferBody(b"x" * 1000), exchange=exchange).status_code == 507
    assert exchange.answered
    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(b"", at=500, send_error=error, end=end)])
    with pytest.raises(httpx.WriteError, match=r"target:8081: (pipe|reset) while sending the request"):
        send(connect, BufferBody(b"x" * 1000), exchange=exchange)
    assert exchange.head_sent
    assert not exchange.answered
    assert connect.streams[0].closed


def test_a_connection_that_takes_nothing_at_all_leaves_no_trace() -> None:
    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(at=0, send_error=BrokenPipeError(), end="close")])
    with pytest.raises(httpx.WriteError, match="BrokenPipeError"):
        send(connect, BufferBody(b"x"), exchange=exchange, fence=5)
    assert exchange == Exchange()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (Pieces(5, memoryview(b"abc")), "ended 2 bytes before its announced 5"),
        (Pieces(5), "ended 5 bytes before"),
        (Pieces(2, memoryview(b"abc")), "went on after its announced 2"),
        (Pieces(3, memoryview(b"abc"), memoryview(b"d")), "went on"),
        (Pieces(0, memoryview(b"d")), "went on"),
    ],
)
def test_a_body_of_another_length_is_an_error_and_never_padded(body: Body, words: str) -> None:
    connect = ScriptedStream.connector([Reply(OK, after_half_close=True)])
    with pytest.raises(ShortBody, match=words):
        send(connect, body)
    assert connect.streams[0].closed
    assert len(connect.streams[0].wire.partition(b"\r\n\r\n")[2]) <= body.length


def test_a_stream_of_another_length_is_an_error_too() -> None:
    with pytest.raises(ShortBody):
        send(ScriptedStream.connector([]), httpx.ByteStream(b"abc"), headers={"Content-Length": "4"})


@pytest.mark.parametrize("answer", [OK, b""])
def test_what_a_body_raises_reaches_the_caller_after_the_fence(answer: bytes) -> None:
    """An OSError of the source, too, is not taken for one of the network."""
    exchange = Exchange()
    error = OSError("the disk is gone")
    body = Pieces(9, memoryview(b"abc"), error)
    connect = ScriptedStream.connector([Reply(answer, after_half_close=True)])
    with pytest.raises(OSError, match="the disk is gone") as caught:
        send(connect, body, exchange=exchange, fence=0.05)
    assert caught.value is error
    assert body.closed
    assert connect.streams[0].half_closed
    assert connect.streams[0].closed
    answered = bool(answer)
    assert exchange == Exchange(True, 3, answered, 200 if answered else None, False, True)


def test_without_a_fence_nothing_is_half_closed() -> None:
    connect = ScriptedStream.connector([])
    exchange = Exchange()
    with pytest.raises(ValueError, match="source"):
        send(connect, Pieces(9, memoryview(b"abc"), ValueError("source")), exchange=exchange)
    assert (connect.streams[0].half_closed, exchange.half_closed) == (False, False)


@pytest.mark.parametrize(
    ("at", "error"),
    [(500, httpx.WriteTimeout), (None, httpx.ReadTimeout)],
)
def test_a_clock_that_runs_out_is_a_timeout_unless_the_fence_brings_the_answer(
    at: int | None, error: type[Exception]
) -> None:
    timeout = {"write": 0.02, "read": 0.02}
    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(at=at)])
    with pytest.raises(error, match="target:8081: timed out while"):
        send(connect, BufferBody(b"x" * 1000), timeout=timeout, fence=0.02, exchange=exchange)
    assert exchange.half_closed
    assert not exchange.answered

    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(OK, step=1, at=at, after_half_close=True)])
    response = send(connect, BufferBody(b"x" * 1000), timeout=timeout, fence=5, exchange=exchange)
    assert response.content == b"ok"
    assert (exchange.answered, exchange.half_closed, exchange.status) == (True, True, 200)
    assert connect.streams[0].closed


class Slow(ScriptedStream):
    """Takes little, and only after a while."""

    _waited = False

    def wait(self, readable: bool, writable: bool, seconds: float) -> int:
        self._waited = writable and not self._waited
        if self._waited:
            time.sleep(min(seconds, 0.01))
            return 0
        return super().wait(readable, writable, seconds)


@pytest.mark.parametrize("send_file", [True, False])
def test_the_write_clock_starts_anew_with_every_byte_taken(tmp_path: Path, send_file: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(800))
    stream = Slow([OK], accept=20, send_file=send_file)
    with path.open("rb") as file, ZeroCopyTransport(connect=lambda *_: stream) as transport:
        began = time.monotonic()
        request = httpx.Request("PUT", URL, stream=BodyStream(FileBody(file.fileno(), 0, 800)))
        request.extensions["timeout"] = {"write": 0.2}
        assert transport.handle_request(request).status_code == 200
        assert time.monotonic() - began > 0.2


def test_cancel_before_anything_was_sent_sends_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    exchange = Exchange()
    connect = ScriptedStream.connector([OK])
    with pytest.raises(Cancelled):
        send(connect, BufferBody(b"x"), cancel=cancel, fence=5, exchange=exchange)
    assert exchange == Exchange()
    assert connect.streams[0].closed


@pytest.mark.parametrize("answer", [OK, b""])
def test_cancel_between_pieces_asks_for_the_answer_and_raises_all_the_same(answer: bytes) -> None:
    cancel = threading.Event()

    class Cancelling(Pieces):
        def pieces(self, in_memory: bool) -> Iterator[Piece]:
            yield memoryview(b"abc")
            cancel.set()
            yield memoryview(b"def")

    exchange = Exchange()
    connect = ScriptedStream.connector([Reply(answer, after_half_close=True)])
    with pytest.raises(Cancelled):
        send(connect, Cancelling(6), cancel=cancel, fence=0.05, exchange=exchange)
    assert exchange == Exchange(True, 3, bool(answer), 200 if answer else None, False, True)


def test_cancel_while_the_answer_is_read() -> None:
    cancel = threading.Event()
    connect = ScriptedStream.connector([Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")])
    with ZeroCopyTransport(connect=connect) as transport:
        response = transport.handle_request(httpx.Request("GET", URL, extensions={"cancel": cancel}))
        cancel.set()
        with pytest.raises(Cancelled):
            response.read()
    assert connect.streams[0].closed


def test_the_answers_body_has_its_own_clock() -> None:
    connect = ScriptedStream.connector([Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")])
    with pytest.raises(httpx.ReadTimeout, match="while reading the answer"):
        send(connect, method="GET", timeout={"read": 0.02})
