"""Request bodies that are handed to the kernel where they lie.

A body is shared with nobody while a request runs: the thread that sends asks for one piece, gives it to the kernel and
asks for the next one. A body closes nothing that it was given; whoever made it keeps the buffer or the descriptor open
until the request has ended.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What is read at a time where the kernel cannot take the file itself: some TLS records, well within a core's cache.
READ_SIZE: Final = 256 * 1024
COPY_SIZE: Final = 1024 * 1024


class ShortBody(Exception):
    """A body had another length than it announced: its source ended early, or went on.

    Nothing is padded, nothing beyond the length is sent, and the connection is closed.
    """


class FileRange(NamedTuple):
    """`length` bytes of the open file `fd` from `offset` on. The file's own position is neither used nor moved."""

    fd: int
    offset: int
    length: int


Piece = memoryview | FileRange


class Body(ABC):
    """A request body of `length` bytes, sent without a copy in user space; only one of 64 KiB or less that lies in
    memory is joined to its head, so that one call sends both. Subclass it to see the bytes pass.

    `BodyStream` gives it to httpx.
    """

    length: int

    @abstractmethod
    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        """The body in order, from its start at each call, and exactly `length` bytes in all.

        A piece is valid until the next one is asked for; then its memory may be used again, and a memoryview released.
        Memoryviews are C-contiguous. With `in_memory` the kernel cannot take from files (TLS, or no sendfile): every
        piece must be a memoryview. How large a piece is does not matter to the transport.

        The next piece is asked for when the kernel has taken the last one whole, and once more after the last, so code
        after the last `yield` runs before the answer is read. When sending ends early the iterator is closed. What it
        raises reaches the caller as it is, after the fence if the request has one.
        """

    def while_blocked(self) -> bool:
        """Called while the kernel has no room for more of a `FileRange`: some work of the body's own, about a
        millisecond of it, after which the kernel is asked again. False: there is none left for this piece, wait. What
        it raises is treated as what `pieces` raises."""
        return False

    def __iter__(self) -> Iterator[bytes]:
        """Copies of at most 1 MiB, for any other transport of httpx."""
        left = self.length
        for piece in self.pieces(True):
            if not isinstance(piece, memoryview):
                raise TypeError(f"pieces(in_memory=True) gave a {type(piece).__name__}")
            with piece.cast("B") as view:
                left -= view.nbytes
                if left < 0:
                    raise too_long(self.length)
                for start in range(0, view.nbytes, COPY_SIZE):
                    yield bytes(view[start : start + COPY_SIZE])
        if left:
            raise too_short(self.length, left)


class BufferBody(Body):
    """A C-contiguous buffer of any format, as its bytes: one piece, of which the kernel takes what it has room for."""

    def __init__(self, buffer: Buffer):
        """Raises TypeError for a buffer that is not C-contiguous."""
        self._view = memoryview(buffer).cast("B")
        self.length = self._view.nbytes

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        if self.length:
            yield self._view

    def release(self) -> None:
        """Lets go of the buffer. What is kept of a request, as by an error, keeps nothing of it then."""
        self._view.release()


class FileBody(Body):
    """`length` bytes of the open file `fd` from `offset` on, by sendfile where the stream can."""

    def __init__(self, fd: int, offset: int, length: int):
        self._range = FileRange(fd, offset, length)
        self.length = length

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        if not in_memory:
            yield self._range
            return
        fd, offset, left = self._range
        buffer = memoryview(bytearray(min(READ_SIZE, left)))
        while left:
            with buffer[: min(left, READ_SIZE)] as window:
                count = read_at(fd, offset, window)
                if not count:
                    raise too_short(self.length, left)
                with window[:count] as piece:
                    yield piece
            offset += count
            left -= count


class StreamBody(Body):
    """Any stream of httpx whose length its request announces: sent as it comes, one item a piece."""

    def __init__(self, stream: Iterable[bytes], length: int):
        self._stream = stream
        self.length = length

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        for item in self._stream:
            with memoryview(item) as view:
                yield view


class WithheldBody(Body):
    """`length` bytes that are announced and not sent: only the answer to the head is wanted, as a redirect.

    Send it with `Expect: 100-continue`. A server that asks for the body, instead of answering, has failed the request
    (httpx.RemoteProtocolError). The connection is closed after it.
    """

    def __init__(self, length: int):
        self.length = length

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        raise ValueError("only its length is to be sent")


def read_at(fd: int, offset: int, window: memoryview) -> int:
    """Fills `window` from the file, as far as one call does; 0 at the file's end."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [window], offset)
    data = os.pread(fd, window.nbytes, offset)
    window[: len(data)] = data
    return len(data)


def too_short(length: int, missing: int) -> ShortBody:
    """The error for a body that ended `missing` bytes before its `length`."""
    return ShortBody(f"the body ended {missing} bytes before its announced {length}; it was not padded")


def too_long(length: int) -> ShortBody:
    """The error for a body that has more than its `length`."""
    return ShortBody(f"the body went on after its announced {length} bytes; the rest was not sent")
