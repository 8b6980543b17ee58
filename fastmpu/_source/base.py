"""What an upload asks of a source, whatever it is.

A `Source` belongs to the upload that opened it; its methods may be called from any thread. A `PartReader` belongs to
one worker thread. Readers are closed before their source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, TypeVar

from .._sizes import KiB

# Bytes to read into a buffer at a time, to be hashed, and sent, from there. Measured with CRC32C and sendfile from the
# page cache, four threads, CPU seconds per GiB for 128, 256, 512 KiB and 1 MiB: 0.37, 0.30, 0.28, 0.28. Smaller windows
# lose it in handing the GIL over, larger ones fall out of the core's cache between reading and hashing.
HASH_WINDOW: Final = 512 * KiB

Reading = Literal["mmap", "pread", "memory"]
Update = Callable[[memoryview], object]

_S = TypeVar("_S", bound="Source")
_R = TypeVar("_R", bound="PartReader")


class PartReader(ABC):
    """Reads one part, for one thread. Offsets are absolute within the source and stay within the part.

    `fileno` is a file from which `os.sendfile` can send the same bytes at absolute offsets; None for memory. It belongs
    to the source: never close it, and move no file position with it.
    """

    fileno: int | None

    @abstractmethod
    def feed(self, offset: int, length: int, update: Update) -> None:
        """Call `update(view)`, once or more, over exactly these bytes in order.

        A view is dead when its call returns: `update` must neither keep nor send it, only compute, and be quick about
        it (a window in some ms), since a file's map cannot be let go meanwhile. SourceError and SourceChangedError tell
        of bytes that could not be had; `update` may have seen some windows by then.
        """

    @abstractmethod
    def view(self, offset: int, length: int) -> memoryview:
        """These bytes, to be sent from user space (TLS): valid until this reader's next call.

        At most HASH_WINDOW bytes at a time from a file, which is read into a buffer of the reader's own; any length
        from memory, where it is a slice of the caller's buffer. Whoever wants the checksum of the same bytes updates it
        with this view, rather than have `feed` read them twice.
        """

    def is_cached(self, offset: int) -> bool:
        """Whether the byte at `offset` can be read without waiting for a disk; True also where that cannot be told."""
        return True

    def at_hand(self, offset: int, length: int) -> memoryview | None:
        """As `view`, if that need not wait for a disk; else None."""
        return self.view(offset, length)

    @abstractmethod
    def close(self) -> None:
        """Give back the buffer and the map. Views that are left are dead. Twice is fine."""

    def __enter__(self: _R) -> _R:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Source(ABC):
    """Bytes of a fixed number, readable in any order and by several threads, one PartReader each."""

    name: str
    """For messages: the path, or `<256 MiB buffer>`."""
    size: int
    """Bytes, fixed when the source was opened."""

    @property
    @abstractmethod
    def reading(self) -> Reading:
        """How windows are read now. A file that began with "mmap" goes on with "pread" once a writer has come."""

    @property
    def identity(self) -> tuple[int, ...] | None:
        """Numbers by which a later process knows the same bytes again; None for what no later process can have."""
        return None

    @abstractmethod
    def open_part(self, offset: int, length: int) -> PartReader:
        """A reader for these bytes; the caller closes it (it is a context manager)."""

    def expect(self, offset: int, length: int) -> None:  # noqa: B027 - what needs no hint does nothing with it
        """These bytes will be read soon: a hint, which does not wait."""

    @abstractmethod
    def check(self) -> None:
        """Raise SourceChangedError, which says what changed, unless this still is what was opened."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, after the last reader was closed. Twice is fine."""

    def serve_lease(self) -> bool:
        """Let a waiting writer have the file: to be called about every 20 ms, from one thread, while an upload runs.

        False: there is nothing, or nothing more, to guard, and no need to call again.
        """
        return False

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_range(offset: int, length: int, start: int, end: int) -> None:
    """ValueError, for it is our own bug, unless `length` bytes at `offset` lie within `start` to `end`."""
    if offset < start or length < 0 or offset + length > end:
        raise ValueError(f"bytes {offset} to {offset + length} lie outside of {start} to {end}")
