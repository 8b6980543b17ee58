"""What makes a message's head plain, so that a pattern may write or read it in h11's stead: for request_head.py and
head.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NAME: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
VALUE: Final = rb"(?:[!-~](?:[ -~]*[!-~])?)?"
# What changes how the body, or the next message, is read; a request's Host is looked at apart.
_SPECIAL: Final = frozenset((b"connection", b"content-encoding", b"host", b"transfer-encoding", b"upgrade"))
_LENGTH_DIGITS: Final = 19  # as many as 2 ** 63 has; h11 takes one more


def lengths_of(fields: Iterable[tuple[bytes, bytes]]) -> list[int] | None:
    """What they say of the body's length, at most one; None where they say anything that is h11's to judge."""
    lengths: list[int] = []
    for name, value in fields:
        key = name.lower()
        if key == b"content-length":
            if lengths or not value.isdigit() or len(value) > _LENGTH_DIGITS:
                return None
            lengths.append(int(value))
        elif key in _SPECIAL:
            return None
    return lengths
