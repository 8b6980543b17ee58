"""Whatever way an answer is cut, it is the same answer; whatever h11 refuses, we refuse."""

from __future__ import annotations

import h11
import httpx
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._transport import BufferBody, Reply, ScriptedStream, ZeroCopyTransport

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
        response = transport.handle_request(httpx.Request("PUT", "http://target/", stream=BufferBody(b"abc")))
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
        status, _, body = exchange(bytes(damaged), portions)
    except httpx.RemoteProtocolError:
        return
    reference = h11.Connection(h11.CLIENT)
    reference.send(h11.Request(method="PUT", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    reference.send(h11.EndOfMessage())
    reference.receive_data(bytes(damaged))
    reference.receive_data(b"")
    expected = b""
    response = reference.next_event()
    assert isinstance(response, h11.Response)
    while isinstance(event := reference.next_event(), h11.Data):
        expected += event.data
    assert (status, body) == (response.status_code, expected)
