"""An answer's head, cut out of what arrived, held to stricter rules than h11's, and read.

h11 is lenient where others are not, and two readings of one message are what request smuggling lives on (RFC 9112,
section 11.2; reliability F8). Refused here: bare LF, folded lines, more than one framing field, lists as a length,
versions other than HTTP/1.x, more than 64 KiB or 128 fields. The rest is h11's: names, values, lengths, codes.

Most heads are so plain that one pattern knows them for what h11 would take, and reads them the same way, in a tenth of
the time (test_transport_properties.py; docs/performance.md). All others, and bodies in chunks, are read by h11.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import h11

from .plain import NAME, VALUE, lengths_of

HEAD_LIMIT: Final = 64 * 1024
FIELD_LIMIT: Final = 128
_START: Final = b"HTTP/1."
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)\r\n((?:" + NAME + rb": ?" + VALUE + rb"\r\n){0,128})\r\n"
)
_FIELD: Final = re.compile(rb"([^:]+): ?([^\r]*)\r\n")


class AnswerHead(NamedTuple):
    """An interim answer's, or a final one's. `length` of the body in bytes, None for what has another end. `encoding`
    of the body, if it has one. `last`: the connection serves no other request (RFC 9112, section 9.3). `reader`: has
    read this head and goes on with a body in chunks.
    """

    status: int
    reason: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    length: int | None = None
    encoding: bytes = b""
    last: bool = False
    reader: h11.Connection | None = None


def take_head(buffer: bytearray, searched: int) -> bytes | None:
    """The first whole head, removed from `buffer`; None while there is none.

    The first `searched` bytes held no end of a head in an earlier call. Raises h11.RemoteProtocolError as soon as it
    is known that what arrives is no answer.
    """
    if buffer[: len(_START)] != _START[: len(buffer)]:
        raise h11.RemoteProtocolError(f"the answer is not HTTP/1: it begins with {bytes(buffer[:20])!r}")
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
    if end + 4 > HEAD_LIMIT or (end < 0 and len(buffer) >= HEAD_LIMIT):
        raise h11.RemoteProtocolError(f"the answer's head is longer than {HEAD_LIMIT} bytes")
    if end < 0:
        if _BARE_LF.search(buffer, searched):
            raise h11.RemoteProtocolError("the answer's head has a line that ends without a carriage return")
        return None
    head = bytes(buffer[: end + 4])
    del buffer[: end + 4]
    return head


def read_head(head: bytes, method: bytes) -> AnswerHead:
    """`head`, as `take_head` gave it, of an answer to `method`. Raises h11.RemoteProtocolError for what is none."""
    return _plain(head) or _by_h11(head, method)


def _plain(head: bytes) -> AnswerHead | None:
    found = _PLAIN.fullmatch(head)
    if found is None:
        return None
    status, reason, block = found.groups()
    fields: list[tuple[bytes, bytes]] = _FIELD.findall(block)
    lengths = lengths_of(fields)
    if lengths is None:
        return None
    return AnswerHead(int(status), reason, b"1.1", fields, lengths[0] if lengths else None)


def _by_h11(head: bytes, method: bytes) -> AnswerHead:
    _check(head)
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    reader.send(h11.Request(method=method, target=b"*", headers=[(b"Host", b"")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(head)
    event = reader.next_event()
    assert isinstance(event, (h11.Response, h11.InformationalResponse))  # what else a whole head may be it raises
    length, encoding, chunked = None, b"", False
    for name, value in event.headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            encoding = value
    fields = event.headers.raw_items()
    last = reader.our_state is not h11.DONE  # MUST_CLOSE, if the answer says so
    known = event.status_code, event.reason, event.http_version, fields, length, encoding, last
    return AnswerHead(*known, reader if chunked else None)


def _check(head: bytes) -> None:
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines:
        raise h11.RemoteProtocolError("the answer's head has a line that ends without a carriage return")
    if lines - 2 > FIELD_LIMIT:  # the status line and the empty one are no fields
        raise h11.RemoteProtocolError(f"the answer has more than {FIELD_LIMIT} header fields")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise h11.RemoteProtocolError("the answer has a folded header line")
    framing = _FRAMING.findall(head)
    if len(framing) > 1:
        names = ", ".join(name.decode() for name, _ in framing)
        raise h11.RemoteProtocolError(f"the answer says more than once how long it is: {names}")
    if framing and framing[0][0].lower() == b"content-length" and not framing[0][1].strip(b" \t").isdigit():
        raise h11.RemoteProtocolError(f"the answer's Content-Length is no length: {framing[0][1]!r}")
