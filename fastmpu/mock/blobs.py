"""Where bytes lie: in anonymous maps, in files of a directory, or nowhere. A blob's size is known before its bytes.

In memory a large blob is an anonymous shared map of its own: its pages go back to the system when the last user lets
go, and they count as shared memory, not as the heap of the process that happens to run the mock. All targets together
may be bounded by a `Budget`. In a directory bytes pass through one buffer per writer. A sink has such a buffer only: it
counts and forgets, and cannot be read.

A blob that is unlinked while somebody reads or writes it behaves as a file does: that somebody is not disturbed.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref
from itertools import count
from pathlib import Path
from typing import Protocol

from fastmpu.mock.answers import Refusal
from fastmpu.mock.wire import Wire

__all__ = [
    "NO_ROOM",
    "Blob",
    "Blobs",
    "BlobsInDirectory",
    "BlobsInMemory",
    "BlobsInSink",
    "Budget",
    "FileBlob",
    "Writer",
    "out_of_space",
]

_WINDOW = 1 << 20  # threads take turns at the interpreter once a window; larger ones leave the cache
_MAP_FROM = 128 << 10  # smaller blobs are cheaper on the heap


NO_ROOM = (OSError, OverflowError, MemoryError)
"""What creating a blob may raise."""


def out_of_space(error: BaseException) -> Refusal:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Refusal(507, f"out of space: {reason}", "ErrCapExceeded")


class Writer(Protocol):
    """Takes a blob's bytes in order."""

    def window(self, offset: int) -> memoryview:
        """Where to receive the bytes from `offset` on; empty at the blob's end."""
        ...

    def keep(self, offset: int, data: memoryview) -> None:
        """`data`, at the start of the last window, has been received. Refusal if there is no room for it."""
        ...

    def close(self) -> None: ...


class Blob(Protocol):
    """Bytes that lie somewhere."""

    @property
    def size(self) -> int: ...
    def writer(self) -> Writer: ...
    def send(self, wire: Wire, offset: int, size: int) -> None: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def unlink(self) -> None: ...


class Blobs(Protocol):
    """Makes blobs. Raises one of NO_ROOM where there is none."""

    @property
    def readable(self) -> bool: ...
    def create(self, size: int) -> Blob: ...


class Budget:
    """Bytes that blobs in memory may have together. A blob that is unlinked counts until its last user lets go."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        with self._lock:
            if self._used + size > self.limit:
                used = f"used {self._used} of {self.limit} bytes, {size} more do not fit"
                raise OSError(errno.ENOSPC, used)
            self._used += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size


class BlobsInMemory:
    readable = True

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget

    def create(self, size: int) -> Blob:
        if self._budget is None:
            return _MemoryBlob(size)
        self._budget.take(size)
        try:
            blob = _MemoryBlob(size)
        except BaseException:
            self._budget.give_back(size)
            raise
        weakref.finalize(blob, self._budget.give_back, size).atexit = False
        return blob


class _MemoryBlob:
    def __init__(self, size: int) -> None:
        self.size = size
        self._view = memoryview(mmap.mmap(-1, size) if size >= _MAP_FROM else bytearray(size))

    def writer(self) -> Writer:
        return self

    def window(self, offset: int) -> memoryview:
        return self._view[offset : offset + _WINDOW]

    def keep(self, offset: int, data: memoryview) -> None:
        """The window was the blob's own memory."""

    def close(self) -> None:
        """Nothing is open."""

    def send(self, wire: Wire, offset: int, size: int) -> None:
        wire.send(self._view[offset : offset + size])

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._view[offset : offset + size])

    def unlink(self) -> None:
        """The memory goes when the last reference does."""


class _Buffers:
    """Windows for those who write at the moment; the last one that was given back goes out first, warm as it is."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(mmap.mmap(-1, _WINDOW))

    def give_back(self, buffer: memoryview) -> None:
        self._free.append(buffer)


class BlobsInSink:
    """Forgets what it is given."""

    readable = False

    def __init__(self) -> None:
        self._buffers = _Buffers()

    def create(self, size: int) -> Blob:
        return _SunkBlob(size, self._buffers)


class _SunkBlob:
    def __init__(self, size: int, buffers: _Buffers) -> None:
        self.size = size
        self._buffers = buffers

    def writer(self) -> Writer:
        return _SinkWriter(self._buffers)

    def send(self, wire: Wire, offset: int, size: int) -> None:
        raise ConnectionError("a sink keeps no bytes")

    def read(self, offset: int, size: int) -> bytes:
        raise OSError("a sink keeps no bytes")

    def unlink(self) -> None:
        """There is nothing."""


class _SinkWriter:
    def __init__(self, buffers: _Buffers) -> None:
        self._buffers = buffers
        self._buffer = buffers.take()

    def window(self, offset: int) -> memoryview:
        return self._buffer

    def keep(self, offset: int, data: memoryview) -> None:
        """It is forgotten."""

    def close(self) -> None:
        self._buffers.give_back(self._buffer)


class BlobsInDirectory:
    """Files with numbers for names. What they hold is told by the catalogue (see `records`)."""

    readable = True

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        taken = [int(path.name) for path in directory.iterdir() if path.name.isdecimal()]
        self._numbers = count(max(taken, default=0) + 1)
        self._buffers = _Buffers()

    def create(self, size: int) -> Blob:
        path = self._directory / f"{next(self._numbers):08d}"
        path.touch()
        return self.adopt(path, size)

    def adopt(self, path: Path, size: int) -> FileBlob:
        """A blob whose file is there already."""
        return FileBlob(path, size, self._buffers)

    def sweep(self, kept: set[Path]) -> None:
        """Remove all files but these."""
        for path in self._directory.iterdir():
            if path.name.isdecimal() and path not in kept:
                path.unlink()


class FileBlob:
    """A file."""

    def __init__(self, path: Path, size: int, buffers: _Buffers) -> None:
        self.size = size
        self.path = path
        self._buffers = buffers

    def writer(self) -> Writer:
        return _FileWriter(self.path, self._buffers)

    def read(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def send(self, wire: Wire, offset: int, size: int) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            wire.send_file(descriptor, offset, size)
        finally:
            os.close(descriptor)

    def unlink(self) -> None:
        self.path.unlink(missing_ok=True)


class _FileWriter(_SinkWriter):
    """The same window, whose bytes are written to a file."""

    def __init__(self, path: Path, buffers: _Buffers) -> None:
        super().__init__(buffers)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def keep(self, offset: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                offset, data = offset + written, data[written:]
        except OSError as error:
            raise out_of_space(error) from error

    def close(self) -> None:
        super().close()
        os.close(self._descriptor)
