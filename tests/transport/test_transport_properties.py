"""Whatever way an answer is cut, it is the same answer; whatever h11 refuses, we refuse; what we write, h11 would."""

from __future__ import annotations

import h11
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._transport import BodyStream, BufferBody, Reply, ScriptedStream, ZeroCopyTransport
from fastmpu._transport.head import read_head
from fastmpu._transport.request_head import write_head

TOKENS = st.text("abcXYZ-09", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in ("connection", "te", "upgrade")
)
FIELDS = st.lists(st.tuples(TOKENS, st.text("ab:; \t=%", max_size=8).map(str.strip)), max_size=5)


class Cut(ScriptedStream):
    """Delivers in the given portions, over and over."""

    portions: tuple[int, ...] = (1,)
    _turn = 0

    def receive(self, count: int) -> bytes | None:
        self._turn += 1
        return super().receive(min(count, self.portions[self._turn % len(self.portions)]))


def exchange(answer: bytes, portions: list[int]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    stream = Cut([Reply(answer, end="close")])
    stream.portions = tuple(portions)
    with ZeroCopyTransport(connect=lambda *_: stream) as transport:
        response = transport.handle_request(
            httpx.Request("PUT", "http://target/", stream=BodyStream(BufferBody(b"abc")))
        )
        content = response.read()
        response.close()
        return response.status_code, response.headers.raw, content


@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    fields=FIELDS,
    body=st.binary(max_size=200),
    framing=st.sampled_from(["length", "chunks", "end"]),
    interim=st.integers(0, 8),
    portions=st.lists(st.integers(1, 50), min_size=1, max_size=6),
)
def test_any_cutting_of_an_answer_gives_the_same(
    status: int, fields: list[tuple[str, str]], body: bytes, framing: str, interim: int, portions: list[int]
) -> None:
    sent = [(name.encode(), value.encode()) for name, value in fields]
    data = body
    if framing == "length":
        sent.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunks":
        sent.append((b"Transfer-Encoding", b"chunked"))
        middle = len(body) // 3
        parts = [part for part in (body[:middle], body[middle:]) if part]
        data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = b"HTTP/1.1 %d Word\r\n" % status + b"".join(b"%s: %s\r\n" % field for field in sent) + b"\r\n"
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * interim + head + data
    assert exchange(answer, portions) == (status, sent, body)


@given(
    answer=st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ]
    ),
    changes=st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 2), st.sampled_from(b"\r\n \t:,-+019aA\0\x80;")), max_size=3
    ),
    portions=st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_a_damaged_answer_is_taken_only_where_h11_takes_it_for_the_same(
    answer: bytes, changes: list[tuple[int, int, int]], portions: list[int]
) -> None:
    damaged = bytearray(answer)
    for place, how, byte in changes:
        at = place % (len(damaged) + 1)
        damaged[at : at + (how > 0)] = b"" if how == 2 else bytes([byte])
    try:
        status, fields, body = exchange(bytes(damaged), portions)
    except httpx.RemoteProtocolError:
        return
    reference = asked()
    reference.receive_data(bytes(damaged))
    reference.receive_data(b"")
    expected = b""
    response = reference.next_event()
    assert isinstance(response, h11.Response)
    while isinstance(event := reference.next_event(), h11.Data):
        expected += event.data
    assert (status, body) == (response.status_code, expected)
    assert fields == response.headers.raw_items()


def asked() -> h11.Connection:
    """h11 that waits for the answer to a request."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="PUT", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    return connection


LINES = [
    b"Connection: close",
    b"connection: Keep-Alive, CLOSE",
    b"Connection: keep-alive",
    b"Content-Length: 0",
    b"content-length:7",
    b"Content-Length: 00000000000000000007",
    b"Content-Length: 123456789012345678901",
    b"Content-Length: +7",
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: identity",
    b"A: b",
    b"A:b",
    b"A:\tb",
    b"A:  two blanks",
    b"A: blank after ",
    b"A: a\tb",
    b"A: \xff",
    b"A: \x01",
    b"A: \x7f",
    b"A: \x00",
    b"A:",
    b"A: ",
    b"A : b",
    b"A",
    b": b",
    b" A: b",
    b"A: b\rB: c",
    b"\xe4: b",
]


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 599 a b\tc",
        b"HTTP/1.1 204 \xe4",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 103 Early Hints",
        b"HTTP/1.1 101 Switching Protocols",
    ],
)
def test_a_head_is_read_as_h11_reads_it_or_refused(start: bytes) -> None:
    """What the pattern knows and what it does not, and whether the connection may serve another request."""
    for first in LINES:
        for lines in ([first], *([first, second] for second in LINES)):
            read_as_by_h11(b"\r\n".join([start, *lines, b"", b""]))


def read_as_by_h11(head: bytes) -> None:
    try:
        read = read_head(head, b"PUT")
    except h11.RemoteProtocolError:
        return
    reference = asked()
    reference.receive_data(head)
    event = reference.next_event()
    assert isinstance(event, (h11.Response, h11.InformationalResponse))
    assert (read.status, read.reason, read.version) == (event.status_code, event.reason, event.http_version)
    assert read.fields == event.headers.raw_items()
    assert read.last == (reference.our_state is not h11.DONE)
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    assert read.length == (lengths[0] if lengths else None)
    assert (read.reader is not None) == any(name == b"transfer-encoding" for name, _ in event.headers)


SENT = [
    (b"A", b"b"),
    (b"b-c", b"d e"),
    (b"A", b""),
    (b"A", b"b\r\nC: d"),
    (b"A", b"b\r\n"),
    (b"A\r\nB", b"c"),
    (b"A", b"b\nc"),
    (b"A", b" b"),
    (b"A", b"b\t"),
    (b"A", b"\xff"),
    (b"A", b"\x00"),
    (b"A", b"\x7f"),
    (b"A:", b"b"),
    (b"A: b", b"c"),
    (b"Host: b", b"c"),
    (b"Content-Length: 0, x", b"y"),
    (b"Transfer-Encoding", b"gzip"),
    (b"Transfer-Encoding", b"Chunked"),
    (b"", b"b"),
    (b"a b", b"c"),
    (b"Host", b"b"),
    (b"Content-Length", b"7"),
    (b"Content-Length", b"0"),
    (b"content-length", b"1" * 20),
    (b"Content-Length", b"1" * 21),
    (b"Content-Length", b"7, 7"),
    (b"Connection", b"close"),
    (b"Connection", b"x, Close"),
    (b"Connection", b"keep-alive"),
    (b"Expect", b"100-continue"),
]


@pytest.mark.parametrize("method", ["PUT", "GET", "P T", "P:T", ""])
@pytest.mark.parametrize("target", [b"/a?b=c", b"*", b"", b"/a b", b"/\r\nB: c", b"/\x7f", b"/\xe4"])
def test_a_request_line_is_written_as_h11_writes_it_or_refused(method: str, target: bytes) -> None:
    written_as_by_h11(method, target, [(b"Host", b"a:80")])


@pytest.mark.parametrize("first", SENT)
def test_fields_are_written_as_h11_writes_them_or_refused(first: tuple[bytes, bytes]) -> None:
    """Whatever a name or a value tries to smuggle in, and whether the connection is asked to close."""
    for others in ([], *([other] for other in SENT)):
        written_as_by_h11("PUT", b"/", [first, *others])
        written_as_by_h11("PUT", b"/", [(b"Host", b"a:80"), first, *others])


def written_as_by_h11(method: str, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    reference = h11.Connection(h11.CLIENT)
    try:
        request = h11.Request(method=method, target=target, headers=fields)
        expected = reference.send(request)
    except h11.LocalProtocolError:
        with pytest.raises(h11.LocalProtocolError):
            write_head(method, target, fields)
        return
    written = write_head(method, target, fields)
    assert written.data == expected
    length = int(dict(request.headers).get(b"content-length", b"0"))
    if length < 10:
        reference.send(h11.Data(data=bytes(length)))
        reference.send(h11.EndOfMessage())
        assert written.last == (reference.our_state is h11.MUST_CLOSE)
