"""One upload of an object at a time on this machine: an advisory lock in a file beside the journal.

The kernel lets go of it when its process ends, however that ends, so it is never stale. It belongs to the open file: a
second job of the same process is kept out as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from ..errors import UploadInProgressError

if sys.platform != "win32":
    import fcntl


class ObjectLock:
    """Held from construction to `release`. UploadInProgressError, which says who, if somebody else has it."""

    def __init__(self, directory: Path, cluster: str, uri: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(f"{cluster} {uri}".encode()).hexdigest()[:32]
        self._path = directory / f"{name}.lock"
        self._fd = self._take(uri)

    def release(self) -> None:
        """Twice is fine. The file goes first, while nobody else can have it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._path.unlink(missing_ok=True)
            os.close(fd)

    def _take(self, uri: str) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if sys.platform != "win32":
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_named(fd):
                    note = json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, note.encode(), 0)
                    return fd
            except BlockingIOError:
                holder = _holder(os.pread(fd, 1000, 0))
                os.close(fd)
                raise UploadInProgressError(
                    f"{uri} is being uploaded by {holder}: wait for it, or stop it", object_name=uri
                ) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # released between our open and our lock: the name is another file's, or nobody's

    def _is_named(self, fd: int) -> bool:
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(fd))


def _holder(note: bytes) -> str:
    try:
        told = json.loads(note)
        return f"process {int(told['pid'])} since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
