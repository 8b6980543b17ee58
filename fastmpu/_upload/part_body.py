"""Bytes on their way from the source to the socket, and their checksums.

A piece of a file is handed to the kernel first, and hashed whenever that has no room for more, so that the socket does
not run empty meanwhile. It is the other way round with a view, whose memory is used again, and with a piece that has to
come from a disk: there the time counts as reading, not as sending. The answer is awaited only when all is hashed.

Threads: a body belongs to the one that sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

from .._checksum import Checksum, new_checksum
from .._plan import PartRange
from .._sizes import MiB
from .._source import HASH_WINDOW, PartReader, Source
from .._transport import Body, FileRange, Piece
from .bandwidth import Pace
from .hash_range import hash_range
from .stages import StageTimes

# What a file gives to one sendfile (docs/performance.md).
FILE_PIECE: Final = 8 * MiB
# How far hashing may stay behind a kernel that never says that it is full.
LAG: Final = 8 * MiB
# What is hashed before the kernel is asked again whether it has room, as much as is mapped at once: 0.3 ms.
HASH_STEP: Final = 4 * MiB


class PartBody(Body):
    """`part` of `source`. Reading it again, as for another attempt, starts over, checksums too.

    `on_piece` is called after each piece. `pace`, the job's `Bandwidth`, is waited for before each piece: at most so
    many bytes, and the seconds that it took. `spent`: what reading, hashing and waiting have taken, over all readings.
    """

    def __init__(
        self,
        source: Source,
        part: PartRange,
        checksums: tuple[str, ...] = (),
        on_piece: Callable[[], object] | None = None,
        pace: Pace | None = None,
    ):
        self.spent = StageTimes()
        self.length = part.length
        self.part = part
        self.names = checksums
        self.digests: dict[str, str] | None = None
        """Of all its bytes, by name, once they were sent; None before that, and after an attempt that ended early."""
        self._source = source
        self._on_piece = on_piece
        self._pace = pace
        self._checksums: tuple[Checksum, ...] = ()
        self._reader: PartReader | None = None
        self._hashed = self._handed = part.offset  # where hashing stands, and where the pieces that were asked for end

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        self.digests = None
        self._checksums = tuple(map(new_checksum, self.names))
        with self._source.open_part(self.part.offset, self.part.length) as reader:
            # A file goes from the page cache to the socket inside the kernel, unless TLS has to see the bytes.
            if in_memory or reader.fileno is None:
                yield from self._views(reader)
            else:
                yield from self._ranges(reader, reader.fileno)
        self.digests = {name: each.hexdigest() for name, each in zip(self.names, self._checksums, strict=True)}

    def _ranges(self, reader: PartReader, fileno: int) -> Iterator[FileRange]:
        start = self.part.offset
        self._handed = start
        self._hashed = start if self.names else start + self.part.length
        self._reader = reader
        try:
            for at, length in self._steps(FILE_PIECE):
                self._hash_up_to(at - LAG, reader)
                self._handed = at + length
                if self.names and not reader.is_cached(at + length - 1):
                    self._hash_up_to(self._handed, reader)
                yield FileRange(fileno, at, length)
            self._hash_up_to(self._handed, reader)
        finally:
            self._reader = None

    def while_blocked(self) -> bool:
        if self._reader is None or self._hashed >= self._handed:
            return False
        self._hash_some(self._reader)
        return True

    def _hash_up_to(self, end: int, reader: PartReader) -> None:
        while self._hashed < end:
            self._hash_some(reader)

    def _hash_some(self, reader: PartReader) -> None:
        length = min(HASH_STEP, self._handed - self._hashed)
        began, hashed = monotonic(), self.spent.checksum
        reader.feed(self._hashed, length, self._update)
        self.spent.read += monotonic() - began - (self.spent.checksum - hashed)
        self._hashed += length

    def _views(self, reader: PartReader) -> Iterator[memoryview]:
        for at, length in self._steps(HASH_WINDOW):
            began, hashed = monotonic(), self.spent.checksum
            view = reader.view(at, length)
            self._update(view)
            self.spent.read += monotonic() - began - (self.spent.checksum - hashed)
            yield view

    def _steps(self, most: int) -> Iterator[tuple[int, int]]:
        """Offset and length of each piece, when its turn has come."""
        if self._pace is not None:
            most = min(most, self._pace[0])
        at, end = self.part.offset, self.part.offset + self.part.length
        while at < end:
            length = min(most, end - at)
            if self._pace is not None:
                self.spent.limit += self._pace[1](length)
            yield at, length
            at += length
            if self._on_piece is not None:
                self._on_piece()

    def _update(self, view: memoryview) -> None:
        began = monotonic()
        for checksum in self._checksums:
            checksum.update(view)
        self.spent.checksum += monotonic() - began

    def hexdigests(self) -> dict[str, str]:
        """`digests`; where nobody told them, as a process that died before it could, the part is read once more."""
        if self.digests is None:
            self.digests = hash_range(self._source, self.part, *self.names)
        return self.digests
