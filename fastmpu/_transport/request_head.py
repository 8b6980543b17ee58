"""A request's head as bytes.

h11 says what may stand in one. Ours are so plain that one pattern knows them for what h11 would write; all others are
h11's, and so is what is wrong with them. Both give the same bytes (test_transport_properties.py); the pattern takes a
tenth of the time, which is most of what a small object costs (docs/performance.md).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import h11

_PLAIN: Final = re.compile(
    rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/1\.1\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+: (?:[!-~](?:[ -~]*[!-~])?)?\r\n)+\r\n"
)
_NOT_PLAIN: Final = frozenset((b"connection", b"content-length", b"host", b"transfer-encoding", b"upgrade"))
_LENGTH_DIGITS: Final = 19  # as many as 2 ** 63 has; h11 takes one more


class RequestHead(NamedTuple):
    """`data` ends in an empty line. `last`: it asks for the connection to be closed (RFC 9112, section 9.3)."""

    method: bytes
    data: bytes
    last: bool


def write_head(method: str, target: bytes, fields: list[tuple[bytes, bytes]]) -> RequestHead:
    """Raises h11.LocalProtocolError for what cannot be sent."""
    verb = method.encode("ascii")
    if _few_specials(fields):
        lines = [b"%b %b HTTP/1.1" % (verb, target), *map(b"%b: %b".__mod__, fields), b"\r\n"]
        data = b"\r\n".join(lines)
        # A line too many would have come out of a value.
        if data.count(b"\n") == len(fields) + 2 and _PLAIN.fullmatch(data):
            return RequestHead(verb, data, False)
    request = h11.Request(method=verb, target=target, headers=fields)
    last = any(name == b"connection" and b"close" in value.lower() for name, value in request.headers)
    return RequestHead(verb, h11.Connection(h11.CLIENT).send(request) or b"", last)


def _few_specials(fields: list[tuple[bytes, bytes]]) -> bool:
    """One Host, first, at most one length, and nothing else that h11 treats in a way of its own."""
    if not fields or fields[0][0].lower() != b"host":
        return False
    lengths = 0
    for name, value in fields[1:]:
        key = name.lower()
        if b":" in key:  # "A: b" and "c" would make a line that looks well
            return False
        if key in _NOT_PLAIN:
            lengths += 1
            if key != b"content-length" or lengths > 1 or not value.isdigit() or len(value) > _LENGTH_DIGITS:
                return False
    return True
