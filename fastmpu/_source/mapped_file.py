"""A regular file as a source: hashed through a map where that is safe, read with `preadv` where it is not.

A map saves a copy of every byte, but a map of a file that someone truncates is a trap: touching it ends the process. So
the map is used under a read lease only (`lease.py`), which makes the truncater wait, and only on file systems where a
lease keeps everybody away (`mounts.py`). A window is mapped while it is hashed, and no longer. When someone comes, no
new one is mapped, the lease is given up when the last one is closed, and reading goes on with `preadv`. Whether the
bytes changed is another question, which `check` answers for both ways.

Threads and locks. Workers call `feed` and `view` on readers of their own; one guard thread of the upload calls
`serve_lease`; anyone calls `check`.
- `FilePart._lock` is held as long as a window is mapped: while it is brought in and read, some 0.3 ms (longer only if
  the disk is slow). `preadv` needs no lock.
- `File._guard` is held while readers come and go, and while the lease is given up. Order: `_guard`, then a reader's
  lock. A reader that finds the lease breaking therefore gives up its own lock first.
- `File._lease` is set to None, under `_guard`, before the first reader is waited for, and each reader looks at it again
  under its own lock: once `_give_up_lease` has had that lock, this reader makes no map any more.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import threading
from contextlib import suppress
from typing import Final, Literal

from .._sizes import MiB
from ..errors import SourceChangedError, SourceError, UsageError
from .base import HASH_WINDOW, PartReader, Reading, Source, Update, check_range
from .file_map import FileMap, can_populate
from .identity import Identity
from .lease import Lease, LeaseRefusedError
from .mounts import LOCAL, file_system_of

Read = Literal["auto", "mmap", "pread"]

# What is mapped and hashed at once: 0.3 ms, and on a disk of 100 MB/s 40 ms, which a writer can wait. Smaller maps cost
# CPU, as closing one is told to every core; larger ones save little (docs/performance.md).
MAP_WINDOW: Final = 4 * MiB
# Below this, asking for a lease costs more than the copy it saves (some 60 us a MiB).
_MAP_FROM: Final = 8 * MiB

# Linux: read what is in memory, or nothing (preadv2(2)).
_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)

_log = logging.getLogger("fastmpu")


class File(Source):
    """An open regular file. Owns `fd` (open for reading only) from the call on, also when it raises."""

    def __init__(
        self,
        fd: int,
        name: str,
        status: os.stat_result | None = None,
        *,
        read: Read = "auto",
        may_grow: bool = False,
        mountinfo: str | None = None,
    ) -> None:
        """`status`: of `fd`, by whoever has just asked for it."""
        self.name = name
        self._fd = fd
        self._may_grow = may_grow
        self._guard = threading.Lock()
        self._parts: set[FilePart] = set()
        self._lease: Lease | None = None
        try:
            self._identity = Identity.of(fd) if status is None else Identity.told(status)
            self._lease = _lease_for(fd, name, self._identity.size, read, mountinfo)
            if self._lease is not None:
                # Once more: the size that maps are made for cannot have shrunk before the kernel guarded it.
                self._identity = Identity.of(fd)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                raise unreadable(error, f"cannot examine {name!r}") from error
            raise
        self.size = self._identity.size

    def __repr__(self) -> str:
        return f"<File {self.name!r} {self.size} bytes, by {self.reading}>"

    @property
    def reading(self) -> Reading:
        return "pread" if self._lease is None else "mmap"

    @property
    def identity(self) -> tuple[int, ...]:
        return tuple(self._identity)

    def open_part(self, offset: int, length: int) -> FilePart:
        check_range(offset, length, 0, self.size)
        with self._guard:
            if self._fd < 0:
                raise ValueError(f"{self.name!r} is closed")
            part = FilePart(self, self._fd, offset, offset + length)
            self._parts.add(part)
        return part

    def expect(self, offset: int, length: int) -> None:
        if hasattr(os, "posix_fadvise"):
            with self._guard, suppress(OSError):  # a hint; what is wrong with the file, reading it will tell
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def check(self) -> None:
        """Compare with what was opened. A file that only lost or gained a name, as one replaced by a rename does, is a
        warning: what was opened is what is uploaded."""
        with self._guard:
            try:
                now = Identity.of(self._fd)
            except OSError as error:
                raise unreadable(error, f"cannot examine {self.name!r}") from error
            if self._identity.only_relinked(now):
                _log.warning(
                    "%r was unlinked, replaced or linked while it is uploaded (%d names, now %d): "
                    "the upload goes on with the file that was opened",
                    self.name,
                    self._identity.links,
                    now.links,
                )
                self._identity = now
            if self._may_grow and now.size > self._identity.size:
                # A writer appends; what was opened is a prefix of the file now, as far as its size can tell.
                now = now._replace(
                    size=self._identity.size, mtime_ns=self._identity.mtime_ns, ctime_ns=self._identity.ctime_ns
                )
            change = self._identity.change(now)
        if change:
            raise SourceChangedError(f"{self.name!r} changed while it was uploaded: {change}")

    def serve_lease(self) -> bool:
        with self._guard:
            if self._lease is None:
                return False
            if self._lease.is_intact():
                return True
            self._give_up_lease()
        _log.info("another process wants to write to %r: reading goes on without a map", self.name)
        return False

    def close(self) -> None:
        with self._guard:
            if self._fd < 0:
                return
            self._give_up_lease()
            for part in self._parts:
                part.shut()
            self._parts.clear()
            os.close(self._fd)
            self._fd = -1

    def forget(self, part: FilePart) -> None:
        with self._guard:
            self._parts.discard(part)

    def _give_up_lease(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            for part in self._parts:
                part.wait_for_map()
            lease.release()

    @property
    def lease(self) -> Lease | None:
        return self._lease


class FilePart(PartReader):
    """Bytes `start` to `end` of a File. The buffer for `preadv` and `view` is made when first needed."""

    fileno: int

    def __init__(self, file: File, fd: int, start: int, end: int) -> None:
        self.fileno = fd
        self._file = file
        self._start = start
        self._end = end
        self._lock = threading.Lock()
        self._buffer: memoryview | None = None
        self._closed = False

    def feed(self, offset: int, length: int, update: Update) -> None:
        self._check(offset, length)
        end = offset + length
        while offset < end:
            count = min(MAP_WINDOW, end - offset)
            if not self._feed_mapped(offset, count, update):
                count = min(HASH_WINDOW, count)
                with self._read(offset, count) as view:
                    update(view)
            offset += count

    def view(self, offset: int, length: int) -> memoryview:
        self._check(offset, length)
        if length > HASH_WINDOW:
            raise ValueError(f"a view of a file has at most {HASH_WINDOW} bytes, not {length}")
        return self._read(offset, length)

    def is_cached(self, offset: int) -> bool:
        self._check(offset, 1)
        if _NOWAIT is None:
            return True
        try:
            os.preadv(self.fileno, [bytearray(1)], offset, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # its file system cannot tell; what else is wrong, reading it will tell
            pass
        return True

    def at_hand(self, offset: int, length: int) -> memoryview | None:
        self._check(offset, length)
        if _NOWAIT is None:
            return None
        buffer = self._buffer_of_its_own()[:length]
        try:
            got = os.preadv(self.fileno, [buffer], offset, _NOWAIT)
        except OSError:  # it would wait, or its file system cannot tell; what else is wrong, `view` will tell
            return None
        return buffer.toreadonly() if got == length else None

    def close(self) -> None:
        self.shut()
        self._file.forget(self)

    def shut(self) -> None:
        self.wait_for_map()
        self._closed = True
        self._buffer = None

    def wait_for_map(self) -> None:
        """Until what this reader has mapped is unmapped."""
        with self._lock:
            pass

    def _check(self, offset: int, length: int) -> None:
        if self._closed:
            raise ValueError(f"this part of {self._file.name!r} is closed")
        check_range(offset, length, self._start, self._end)

    def _feed_mapped(self, offset: int, count: int, update: Update) -> bool:
        """Whether the window was fed from the map; if not, `update` was not called."""
        if self._file.lease is None:
            return False
        with self._lock:
            lease = self._file.lease
            if lease is None:
                return False
            if lease.is_intact():
                return self._map_and_feed(offset, count, update)
        self._file.serve_lease()
        return False

    def _map_and_feed(self, offset: int, count: int, update: Update) -> bool:
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        try:
            file_map = FileMap(self.fileno, start, offset + count - start)
        except (OSError, ValueError) as error:  # ValueError: the file is shorter by now
            _log.debug("no map of %r: %s", self._file.name, error)
            return False
        with file_map:
            window = file_map.window(offset, count)
            if window is None:
                return False
            with window:
                update(window)
        return True

    def _read(self, offset: int, count: int) -> memoryview:
        buffer = self._buffer_of_its_own()
        done = 0
        while done < count:
            try:
                got = os.preadv(self.fileno, [buffer[done:count]], offset + done)
            except OSError as error:
                raise unreadable(error, f"cannot read {self._file.name!r} at byte {offset + done}") from error
            if got == 0:
                raise SourceChangedError(
                    f"{self._file.name!r} changed while it was uploaded: "
                    f"nothing is left at byte {offset + done} of {self._file.size}"
                )
            done += got
        return buffer[:count].toreadonly()

    def _buffer_of_its_own(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(min(HASH_WINDOW, self._end - self._start)))
        return self._buffer


def unreadable(error: OSError, what: str) -> SourceError:
    """`error` in our tree, with its errno. ESTALE means that a network file system has put another file there."""
    kind = SourceChangedError if error.errno == errno.ESTALE else SourceError
    return kind(error.errno, f"{what}: {error.strerror or error}")


def _lease_for(fd: int, name: str, size: int, read: Read, mountinfo: str | None) -> Lease | None:
    """The lease that a map needs. None: read with `preadv`. UsageError: a map was asked for and cannot be had."""
    if read == "pread" or (read == "auto" and size < _MAP_FROM):
        return None
    try:
        kind = file_system_of(fd, mountinfo)
        if kind not in LOCAL:
            raise LeaseRefusedError(f"it lies on {kind or 'an unknown file system'}, where a map is not safe")
        if not can_populate():
            raise LeaseRefusedError("this kernel has no MADV_POPULATE_READ (Linux 5.14)")
        return Lease(fd)
    except LeaseRefusedError as refusal:
        if read == "mmap":
            raise UsageError(f"read='mmap' cannot be had for {name!r}: {refusal}. Use read='auto'") from refusal
        _log.debug("%r is read with preadv: %s", name, refusal)
        return None
