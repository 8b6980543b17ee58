"""Which Source fits what the caller passed."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, cast, get_args

from ..errors import SourceError, UsageError
from .base import Source
from .buffer import Buffer
from .mapped_file import File, Read, unreadable

_READS: Final = get_args(Read)
_ACCEPTED: Final = (
    "a path (str or os.PathLike), or a C-contiguous buffer (bytes, bytearray, memoryview, mmap, array, ndarray)"
)

_REFUSED: Final = (
    (
        stat.S_ISDIR,
        errno.EISDIR,
        "is a directory: directories are not uploaded, pass its files one by one",
    ),
    (stat.S_ISFIFO, errno.ESPIPE, "is a FIFO: it has no size and cannot be read twice"),
    (stat.S_ISSOCK, errno.ENXIO, "is a socket: it has no contents"),
    (stat.S_ISCHR, errno.ENODEV, "is a character device: it has no size"),
    (stat.S_ISBLK, errno.ENODEV, "is a block device: copy it into a file first"),
)


def resolve(source: object, *, read: str = "auto", on_change: str = "error") -> Source:
    """Open what the caller passed; the caller of this closes it.

    `read` is for files: "mmap", "pread", or "auto" for a map where it is safe and pays. So is `on_change`: "prefix"
    lets a file grow, and uploads what it had when it was opened. UsageError: not something that can be a source.
    SourceError, with `errno`, and chained from the OSError: a path that cannot be opened, or is no file.
    """
    if read not in _READS:
        raise UsageError(f"read={read!r} is not known: choose one of {', '.join(_READS)}")
    if isinstance(source, (str, os.PathLike)):
        return _open(os.fspath(source), cast(Read, read), may_grow=on_change == "prefix")
    if _has_buffer(source):
        return Buffer(source)
    raise UsageError(f"cannot upload from {type(source).__name__}: pass {_ACCEPTED}{_remedy(source)}")


def _open(path: str | bytes, read: Read, *, may_grow: bool) -> File:
    name = os.fsdecode(path)
    try:
        # Looked at before it is opened, as opening a FIFO or a device can wait, or do things; and again afterwards, for
        # there may be another file by then.
        _refuse_others(name, os.stat(path).st_mode)
        fd = _open_file(path)
        try:
            status = os.fstat(fd)
            _refuse_others(name, status.st_mode)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise unreadable(error, f"cannot open {name!r}") from error
    except ValueError as error:
        raise UsageError(f"{name!r} is no path: {error}") from error
    return File(fd, name, status, read=read, may_grow=may_grow)


def _open_file(path: str | bytes) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except BlockingIOError:
        # A regular file whose writer holds a lease; the kernel has asked it to let go. Only this may wait.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse_others(name: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    for is_kind, number, why in _REFUSED:
        if is_kind(mode):
            raise SourceError(number, f"{name!r} {why}")
    raise SourceError(errno.EINVAL, f"{name!r} is not a regular file")


def _has_buffer(source: object) -> bool:
    try:
        memoryview(source).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    except (BufferError, ValueError):
        pass  # it has one that is not to be had: Buffer says why
    return True


def _remedy(source: object) -> str:
    if hasattr(source, "getbuffer"):
        return "; of a BytesIO, pass .getbuffer()"
    if hasattr(source, "read"):
        return "; of an open file, pass its path"
    if hasattr(source, "numpy"):
        return "; of a tensor, pass .numpy()"
    if hasattr(source, "__iter__"):
        return "; what can only be read once must be stored first"
    return ""
