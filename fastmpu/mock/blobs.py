"""Where bytes lie: in anonymous maps, or in files of a directory. A blob's size is known before its bytes come.

In memory a large blob is an anonymous shared map of its own: its pages go back to the system when the last user lets
go, and they count as shared memory, not as the heap of the process that happens to run the mock. In a directory bytes
pass through one buffer per thread.

A blob that is unlinked while somebody reads or writes it behaves as a file does: that somebody is not disturbed.
"""

from __future__ import annotations

import mmap
import os
import threading
from itertools import count
from pathlib import Path
from typing import Protocol

from fastmpu.mock.answers import Refusal
from fastmpu.mock.wire import Wire

__all__ = ["NO_ROOM", "Blob", "Blobs", "BlobsInDirectory", "BlobsInMemory", "Writer", "out_of_space"]

_WINDOW = 512 << 10  # large enough that a switch of threads costs little, small enough to stay in the cache
_MAP_FROM = 128 << 10  # smaller blobs are cheaper on the heap


NO_ROOM = (OSError, OverflowError, MemoryError)
"""What creating a blob may raise."""


def out_of_space(error: BaseException) -> Refusal:
    return Refusal(507, f"out of space: {error}")


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
    def unlink(self) -> None: ...


class Blobs(Protocol):
    """Makes blobs. Raises one of NO_ROOM where there is none."""

    def create(self, size: int) -> Blob: ...


class BlobsInMemory:
    def create(self, size: int) -> Blob:
        return _MemoryBlob(size)


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

    def unlink(self) -> None:
        """The memory goes when the last reference does."""


class BlobsInDirectory:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = count(1)
        self._buffers = threading.local()

    def create(self, size: int) -> Blob:
        path = self._directory / f"{next(self._numbers):08d}"
        path.touch()
        return _FileBlob(path, size, self)

    def buffer(self) -> memoryview:
        """The calling thread's own window."""
        if not hasattr(self._buffers, "view"):
            self._buffers.view = memoryview(mmap.mmap(-1, _WINDOW))
        view: memoryview = self._buffers.view
        return view


class _FileBlob:
    def __init__(self, path: Path, size: int, blobs: BlobsInDirectory) -> None:
        self.size = size
        self._path = path
        self._blobs = blobs

    def writer(self) -> Writer:
        return _FileWriter(self._path, self._blobs.buffer())

    def send(self, wire: Wire, offset: int, size: int) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            wire.send_file(descriptor, offset, size)
        finally:
            os.close(descriptor)

    def unlink(self) -> None:
        self._path.unlink(missing_ok=True)


class _FileWriter:
    def __init__(self, path: Path, buffer: memoryview) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._buffer = buffer

    def window(self, offset: int) -> memoryview:
        return self._buffer

    def keep(self, offset: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                offset, data = offset + written, data[written:]
        except OSError as error:
            raise out_of_space(error) from error

    def close(self) -> None:
        os.close(self._descriptor)
