"""A short-lived map of a stretch of a file, whose windows are brought into memory before anyone touches them.

The lease keeps truncaters away, but a page can be missing for other reasons as well: a bad sector, a full tmpfs under a
sparse file. Touching it would be SIGBUS, the end of the process. MADV_POPULATE_READ (Linux 5.14) does the same work,
also for pages that are cached already, and reports what would have been SIGBUS as an error instead; such a window is
then left to `preadv`, which tells what is wrong.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import lru_cache
from typing import Final

_MADV_POPULATE_READ: Final = 22  # not yet a constant of Python's mmap


class FileMap:
    """Bytes `offset` to `offset + length` of a file, mapped; `offset` is a multiple of the system's granularity.

    OSError where the map cannot be had. One thread at a time. Closing it raises BufferError while a view is alive.
    """

    def __init__(self, fd: int, offset: int, length: int) -> None:
        # Private and, for form's sake, writable (the file cannot be reached through it): only of such a map ctypes
        # tells the address. Nothing is ever written, so no page is copied.
        self._map = mmap.mmap(fd, length, access=mmap.ACCESS_COPY, offset=offset)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.offset = offset

    def window(self, offset: int, length: int) -> memoryview | None:
        """A read-only view of these bytes, all in memory; None if they could not be brought there. The caller releases
        it.
        """
        start = offset - self.offset
        first = start - start % mmap.PAGESIZE
        if not _populate(self._address + first, start + length - first):
            return None
        with memoryview(self._map) as whole, whole.toreadonly() as readonly:
            return readonly[start : start + length]

    def close(self) -> None:
        self._map.close()

    def __enter__(self) -> FileMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@lru_cache(maxsize=1)
def can_populate() -> bool:
    """Whether this system has MADV_POPULATE_READ. gVisor and kernels before 5.14 do not."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        return _populate(ctypes.addressof(ctypes.c_char.from_buffer(page)), mmap.PAGESIZE)


def _populate(address: int, length: int) -> bool:
    # By ctypes, since `mmap.madvise` holds the GIL, and a window may have to come from a disk.
    failed: int = _madvise()(address, length, _MADV_POPULATE_READ)
    return not failed


@lru_cache(maxsize=1)
def _madvise() -> ctypes._NamedFuncPointer:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise.restype = ctypes.c_int
    return madvise
