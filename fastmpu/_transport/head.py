"""An answer's head, cut out of what arrived and held to stricter rules than h11's before h11 reads it.

h11 is lenient where others are not, and two readings of one message are what request smuggling lives on (RFC 9112,
section 11.2; reliability F8). Refused here: bare LF, folded lines, more than one framing field, lists as a length,
versions other than HTTP/1.x, more than 64 KiB or 128 fields. The rest is h11's: names, values, lengths, codes.
"""

from __future__ import annotations

import re
from typing import Final

import h11

HEAD_LIMIT: Final = 64 * 1024
FIELD_LIMIT: Final = 128
_START: Final = b"HTTP/1."
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)


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
    _check(head)
    return head


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
