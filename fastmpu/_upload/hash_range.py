"""The checksum of a range that is not being sent meanwhile."""

from __future__ import annotations

from .._checksum import new_checksum
from .._plan import PartRange
from .._source import HASH_WINDOW, Source


def hash_range(source: Source, part: PartRange, kind: str) -> str:
    """Of `part`, read once, in the calling thread."""
    checksum = new_checksum(kind)
    with source.open_part(part.offset, part.length) as reader:
        end = part.offset + part.length
        for at in range(part.offset, end, HASH_WINDOW):
            reader.feed(at, min(HASH_WINDOW, end - at), checksum.update)
    return checksum.hexdigest()
