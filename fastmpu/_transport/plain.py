"""What the fields of a message's head tell, and what makes it plain, so that a pattern may write or read it in h11's
stead: for wire.py, request_head.py and head.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

NAME: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
VALUE: Final = rb"(?:[!-~](?:[ -~]*[!-~])?)?"
# What changes how the body, or the next message, is read; a request's Host is looked at apart.
_SPECIAL: Final = frozenset((b"connection", b"content-encoding", b"host", b"transfer-encoding", b"upgrade"))
_LENGTH_DIGITS: Final = 19  # as many as 2 ** 63 has; h11 takes one more


class FieldNames(NamedTuple):
    """What the names of a message's fields tell, without their values. `keys`: in lower case. The others: where the
    special ones and the lengths stand, and whether a name has a colon."""

    keys: tuple[bytes, ...]
    special: tuple[int, ...]
    lengths: tuple[int, ...]
    colon: bool


def names_of(fields: Sequence[tuple[bytes, bytes]]) -> FieldNames:
    return _told_by(tuple([name for name, _ in fields]))


def lengths_of(fields: Sequence[tuple[bytes, bytes]], special: tuple[int, ...] = ()) -> list[int] | None:
    """What they say of the body's length, at most one; None where they say anything that is h11's to judge, but for
    what the caller has judged in the places `special`."""
    names = names_of(fields)
    values = [fields[place][1] for place in names.lengths]
    if names.special != special or len(values) > 1:
        return None
    if not all(value.isdigit() and len(value) <= _LENGTH_DIGITS for value in values):
        return None
    return [int(value) for value in values]


@lru_cache(maxsize=64)  # a server's answers, and our requests, have the same fields again and again
def _told_by(names: tuple[bytes, ...]) -> FieldNames:
    keys = tuple(name.lower() for name in names)
    special = tuple(place for place, key in enumerate(keys) if key in _SPECIAL)
    lengths = tuple(place for place, key in enumerate(keys) if key == b"content-length")
    return FieldNames(keys, special, lengths, any(b":" in name for name in names))
