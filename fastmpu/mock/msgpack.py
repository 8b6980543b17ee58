"""The little of MessagePack that object lists need: maps with text keys, lists, text, integers, nil (protocol 4.5)."""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["pack"]


def pack(value: Any) -> bytes:
    """`value` as MessagePack. TypeError for anything but None, int, str, list and dict."""
    pieces: list[bytes] = []
    _pack(value, pieces.append)
    return b"".join(pieces)


def _pack(value: Any, put: Any) -> None:
    if value is None:
        put(b"\xc0")
    elif isinstance(value, int) and not isinstance(value, bool):
        put(_integer(value))
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        put(_sized(len(data), 0xA0, 31, ((0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I"))) + data)
    elif isinstance(value, list):
        put(_sized(len(value), 0x90, 15, ((0xDC, ">H"), (0xDD, ">I"))))
        for item in value:
            _pack(item, put)
    elif isinstance(value, dict):
        put(_sized(len(value), 0x80, 15, ((0xDE, ">H"), (0xDF, ">I"))))
        for key, item in value.items():
            _pack(key, put)
            _pack(item, put)
    else:
        raise TypeError(f"cannot pack {type(value).__name__}")


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes((value,))
    if value < 0:
        return struct.pack(">Bq", 0xD3, value)
    return struct.pack(">BQ", 0xCF, value)


def _sized(size: int, small: int, small_limit: int, forms: tuple[tuple[int, str], ...]) -> bytes:
    """A head that tells a size: in its own byte if it fits, else in the shortest of the forms."""
    if size <= small_limit:
        return bytes((small | size,))
    code, layout = next(form for form in forms if size < 1 << 8 * struct.calcsize(form[1]))
    return bytes((code,)) + struct.pack(layout, size)
