"""Header fields that nobody is to see: kept apart from a request's head until its bytes are made.

An exception shows its frames' locals to whoever asks (`traceback.TracebackException(capture_locals=True)`, error
collectors, pytest). So no frame here ever holds such a field in anything whose repr shows it: they travel in a
`SealedFields`, and then in a memoryview.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import h11

SECRET_NAMES: Final = frozenset((b"authorization", b"proxy-authorization", b"x-amz-security-token", b"cookie"))
_VALUE: Final = re.compile(rb"[!-~]([ -~]*[!-~])?")  # printable ASCII: no line can be ended with it
_SHORTEST_HIDDEN: Final = 6  # characters; shorter ones are found in too many words to be a secret


class SealedFields:
    """The secret ones of `fields`. Raises h11.LocalProtocolError, which does not show it, for a bad value."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()):
        self._fields = [(name, value) for name, value in fields if name.lower() in SECRET_NAMES]
        del fields
        if not all(_VALUE.fullmatch(value) for _, value in self._fields):
            raise h11.LocalProtocolError("a secret header's value has characters that cannot stand there (not shown)")

    def __repr__(self) -> str:
        return f"<SealedFields {len(self._fields)}>"

    def joined_to(self, head: bytes | None) -> memoryview:
        """`head`, which ends in an empty line, with these fields at its end."""
        head = head or b""
        if not self._fields:
            return memoryview(head)
        lines = b"".join(b"%b: %b\r\n" % field for field in self._fields)
        return memoryview(head[:-2] + lines + b"\r\n")

    def hide(self, text: str) -> str:
        """`text` without the fields' values, for servers that send back what they got."""
        for _, value in self._fields:
            scheme, _, credentials = value.decode("ascii").rpartition(" ")
            for secret in (f"{scheme} {credentials}", credentials):
                if len(secret) >= _SHORTEST_HIDDEN:
                    text = text.replace(secret, "***")
        return text
