"""Checksums of a range that is not being sent meanwhile."""

from __future__ import annotations

from .._checksum import new_checksum
from .._plan import PartRange
from .._source import Source


def hash_range(source: Source, part: PartRange, *kinds: str) -> dict[str, str]:
    """Of `part`, by kind, read once, in the calling thread."""
    checksums = {kind: new_checksum(kind) for kind in kinds}

    def update(view: memoryview) -> None:
        for checksum in checksums.values():
            checksum.update(view)

    if checksums:
        with source.open_part(part.offset, part.length) as reader:
            reader.feed(part.offset, part.length, update)
    return {kind: checksum.hexdigest() for kind, checksum in checksums.items()}
