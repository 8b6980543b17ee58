"""Bytes on their way from the source to the socket: each piece is hashed just before it is sent.

Threads: a body belongs to the one that sends it. With `ahead`, the thread of that executor hashes the next piece while
one is sent: it has the reader's map and buffer, the checksums and their times until its future is done, and only then
the piece is handed out. The body ends after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from time import monotonic
from typing import Final

from .._checksum import Checksum, new_checksum
from .._plan import PartRange
from .._sizes import KiB, MiB
from .._source import HASH_WINDOW, PartReader, Source
from .._transport import Body, FileRange, Piece
from .bandwidth import Pace
from .stages import StageTimes

# What a file gives to one sendfile, hashed just before. Larger than a window, since a socket that runs empty between
# small sends costs more CPU than the cache saves: 512 KiB pieces took a tenth more (docs/performance.md).
FILE_PIECE: Final = 8 * MiB
# And where the next piece is hashed while one is sent, so that the socket does not run empty (docs/performance.md).
AHEAD_PIECE: Final = 512 * KiB


class PartBody(Body):
    """`part` of `source`. Reading it again, as for another attempt, starts over, checksums too.

    `checksums` are filled while the body is sent and final when it has ended. `on_piece` is called after each piece.
    `pace`, the job's `Bandwidth`, is waited for before each piece: at most so many bytes, and the seconds that it took.
    `ahead`: one thread, for a file's pieces. `spent`: what reading, hashing and waiting have taken, over all readings.
    """

    def __init__(
        self,
        source: Source,
        part: PartRange,
        checksums: tuple[str, ...] = (),
        on_piece: Callable[[], object] | None = None,
        pace: Pace | None = None,
        ahead: Executor | None = None,
    ):
        self.spent = StageTimes()
        self.length = part.length
        self.part = part
        self.names = checksums
        self.checksums: dict[str, Checksum] = {}
        self._source = source
        self._on_piece = on_piece
        self._pace = pace
        self._ahead = ahead
        self._elsewhere: dict[str, str] | None = None

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        self.checksums = {name: new_checksum(name) for name in self.names}
        with self._source.open_part(self.part.offset, self.part.length) as reader:
            # A file goes from the page cache to the socket inside the kernel, unless TLS has to see the bytes.
            if in_memory or reader.fileno is None:
                yield from self._views(reader)
            elif self.names and self._ahead is not None:
                yield from self._ranges_ahead(reader, reader.fileno, self._ahead)
            else:
                for at, length in self._steps(FILE_PIECE):
                    self._hash(reader, at, length)
                    yield FileRange(reader.fileno, at, length)

    def _views(self, reader: PartReader) -> Iterator[memoryview]:
        for at, length in self._steps(HASH_WINDOW):
            began, hashed = monotonic(), self.spent.checksum
            view = reader.view(at, length)
            self._update(view)
            self.spent.read += monotonic() - began - (self.spent.checksum - hashed)
            yield view

    def _ranges_ahead(self, reader: PartReader, fileno: int, ahead: Executor | None) -> Iterator[FileRange]:
        """While one piece is sent, the next is hashed in the other thread."""
        end = self.part.offset + self.part.length
        hashed: Future[None] | None = None
        try:
            for at, length in self._steps(AHEAD_PIECE):
                if hashed is None:
                    self._hash(reader, at, length)
                else:
                    hashed.result()
                following = at + length
                hashed = None
                if ahead is not None and following < end:
                    try:
                        hashed = ahead.submit(self._hash, reader, following, min(length, end - following))
                    except RuntimeError:
                        # The interpreter is shutting down, or no thread can be started. Then the work stays in its
                        # queue until a later part has one started, and finds this reader closed.
                        ahead = None
                yield FileRange(fileno, at, length)
        finally:
            if hashed is not None and not hashed.cancel():
                wait([hashed])  # the reader is closed next

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

    def _hash(self, reader: PartReader, at: int, length: int) -> None:
        if self.checksums:
            began, hashed = monotonic(), self.spent.checksum
            reader.feed(at, length, self._update)
            self.spent.read += monotonic() - began - (self.spent.checksum - hashed)

    def _update(self, view: memoryview) -> None:
        began = monotonic()
        for checksum in self.checksums.values():
            checksum.update(view)
        self.spent.checksum += monotonic() - began

    def sent_elsewhere(self, hexdigests: dict[str, str] | None) -> None:
        """Another process has sent it, and these are its checksums; None: it has not told them. What was hashed here
        belongs to an earlier attempt, which may have ended early."""
        self._elsewhere = hexdigests
        self.checksums = {}

    def hexdigests(self) -> dict[str, str]:
        """Where nobody told them, as a process that died before it could, the part is read once more."""
        if self._elsewhere is not None:
            return self._elsewhere
        if len(self.checksums) < len(self.names):
            deque(self.pieces(in_memory=True), maxlen=0)
        return {name: each.hexdigest() for name, each in self.checksums.items()}
