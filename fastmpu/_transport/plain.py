"""What makes a message's head plain, so that a pattern may write or read it in h11's stead: for request_head.py and
head.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

NAME: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
VALUE: Final = rb"(?:[!-~](?:[ -~]*[!-~])?)?"
# What changes how the body, or the next message, is read; a request's Host is looked at apart.
_SPECIAL: Final = frozenset((b"connection", b"content-encoding", b"host", b"transfer-encoding", b"upgrade"))
_LENGTH_DIGITS: Final = 19  # as many as 2 ** 63 has; h11 takes one more


def lengths_of(fields: Iterable[tuple[bytes, bytes]]) -> list[int] | None:
    """What they say of the body's length, at most one; None where they say anything that is h11's to judge."""
    fields = list(fields)
    place = _place_of_length(tuple([name for name, _ in fields]))
    if place is None or place < 0:
        return None if place is None else []
    value = fields[place][1]
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        return None
    return [int(value)]


@lru_cache(maxsize=64)  # a server's answers, and our requests, have the same fields again and again
def _place_of_length(names: tuple[bytes, ...]) -> int | None:
    """Which of them is the length, -1 for none of them; None where one is special, or there are several lengths."""
    keys = [name.lower() for name in names]
    if not _SPECIAL.isdisjoint(keys) or keys.count(b"content-length") > 1:
        return None
    return keys.index(b"content-length") if b"content-length" in keys else -1
