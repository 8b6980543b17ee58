"""Bytes on their way from the source to the socket: each piece is hashed just before it is sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

from .._checksum import Checksum, new_checksum
from .._plan import PartRange
from .._sizes import MiB
from .._source import HASH_WINDOW, Source
from .._transport import Body, FileRange, Piece
from .bandwidth import Pace
from .stages import StageTimes

# What a file gives to one sendfile, hashed just before. Larger than a window, since a socket that runs empty between
# small sends costs more CPU than the cache saves: 512 KiB pieces took a tenth more (docs/performance.md).
FILE_PIECE = 8 * MiB


class PartBody(Body):
    """`part` of `source`. Reading it again, as for another attempt, starts over, checksums too.

    `checksums` are filled while the body is sent and final when it has ended. `on_piece` is called after each piece.
    `pace`, the job's `Bandwidth`, is waited for before each piece: at most so many bytes, and the seconds that it took.
    `spent`: what reading, hashing and waiting have taken, over all readings.
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
        self.checksums: dict[str, Checksum] = {}
        self._source = source
        self._on_piece = on_piece
        self._pace = pace
        self._elsewhere: dict[str, str] | None = None

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        self.checksums = {name: new_checksum(name) for name in self.names}
        updates = [each.update for each in self.checksums.values()]
        spent = self.spent

        def update(view: memoryview) -> None:
            began = monotonic()
            for each in updates:
                each(view)
            spent.checksum += monotonic() - began

        at, end = self.part.offset, self.part.offset + self.part.length
        with self._source.open_part(at, self.part.length) as reader:
            # A file goes from the page cache to the socket inside the kernel, unless TLS has to see the bytes.
            fileno = None if in_memory else reader.fileno
            most = FILE_PIECE if fileno is not None else HASH_WINDOW
            if self._pace is not None:
                most = min(most, self._pace[0])
            while at < end:
                length = min(most, end - at)
                if self._pace is not None:
                    spent.limit += self._pace[1](length)
                began, hashed = monotonic(), spent.checksum
                if fileno is None:
                    view = reader.view(at, length)
                    update(view)
                elif updates:
                    reader.feed(at, length, update)
                spent.read += monotonic() - began - (spent.checksum - hashed)
                yield view if fileno is None else FileRange(fileno, at, length)
                at += length
                if self._on_piece is not None:
                    self._on_piece()

    def sent_elsewhere(self, hexdigests: dict[str, str] | None) -> None:
        """Another process has sent it, and these are its checksums; None: it has not told them."""
        self._elsewhere = hexdigests

    def hexdigests(self) -> dict[str, str]:
        """Where nobody told them, as a process that died before it could, the part is read once more."""
        if self._elsewhere is not None:
            return self._elsewhere
        if len(self.checksums) < len(self.names):
            deque(self.pieces(in_memory=True), maxlen=0)
        return {name: each.hexdigest() for name, each in self.checksums.items()}
