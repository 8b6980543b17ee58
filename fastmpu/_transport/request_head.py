"""A request's head as bytes.

h11 says what may stand in one. Ours are so plain that one pattern knows them for what h11 would write; all others are
h11's, and so is what is wrong with them. Both give the same bytes (test_transport_properties.py); the pattern takes a
tenth of the time, which is most of what a small object costs (docs/performance.md).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import h11

from .plain import NAME, VALUE, lengths_of, names_of

_PLAIN: Final = re.compile(NAME + rb" [!-~]+ HTTP/1\.1\r\n(?:" + NAME + rb": " + VALUE + rb"\r\n)+\r\n")


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
    names = names_of(fields)
    if names.colon or names.keys[:1] != (b"host",):  # "A: b" and "c" would make a line that looks well
        return False
    return lengths_of(fields, special=(0,)) is not None
