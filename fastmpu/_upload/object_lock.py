"""One upload of an object at a time on this machine: an advisory lock in a file beside the journal.

The kernel lets go of it when its process ends, however that ends, so it is never stale. It belongs to the open file: a
second job of the same process is kept out as well.

The file also vouches for the journal: it names the upload id of which *all* begun parts are noted there. A job that
cannot write its notes any more takes that back, by cutting the file to nothing, which a full disk allows. For an upload
that goes on without notes has parts that nobody knows of, and the number of parts alone cannot tell which they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from ..errors import UploadInProgressError
from .file_lock import try_lock, unlock

_log = logging.getLogger("fastmpu")


class ObjectLock:
    """Held from construction to `release`. UploadInProgressError, which says who, if somebody else has it."""

    vouches_for: str
    """An upload id, of this job or left by an earlier one; "" for none."""

    def __init__(self, directory: Path, cluster: str, uri: str) -> None:
        self.vouches_for = ""
        self._process = os.getpid()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(f"{cluster} {uri}".encode()).hexdigest()[:32]
        self._path = directory / f"{name}.lock"
        self._fd = self._take(uri)

    def vouch(self, upload_id: str) -> None:
        """From here on each part of it is noted before it is sent. A crash of the machine that takes this along costs a
        resume, no data."""
        self.vouches_for = upload_id
        self._write(self._fd)

    def retract(self, *, synced: bool = False) -> bool:
        """False: this could not be written, and who comes later will believe the notes. `synced`: it outlives a crash
        of the machine."""
        self.vouches_for = ""
        try:
            os.ftruncate(self._fd, 0)
            if synced:
                os.fsync(self._fd)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Twice is fine. A file that vouches for an upload stays; any other goes, while nobody else can have it. In a
        forked child nothing: it is the parent's."""
        if self._fd >= 0 and os.getpid() == self._process:
            fd, self._fd = self._fd, -1
            try:
                if not self.vouches_for:
                    self._path.unlink(missing_ok=True)
                unlock(fd)
            except OSError as error:
                _log.info("lock %s stays: %s", self._path, error)
            finally:
                os.close(fd)

    def _take(self, uri: str) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not try_lock(fd):
                    raise UploadInProgressError(
                        f"{uri} is being uploaded by {_holder(_read(fd))}: wait for it, or stop it", object_name=uri
                    )
                if self._is_named(fd):
                    self.vouches_for = str(_read(fd).get("upload_id", ""))
                    self._write(fd)
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # released between our open and our lock: the name is another file's, or nobody's

    def _write(self, fd: int) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        note = json.dumps({"pid": os.getpid(), "since": since, "upload_id": self.vouches_for}).encode()
        os.pwrite(fd, note, 0)
        os.ftruncate(fd, len(note))

    def _is_named(self, fd: int) -> bool:
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(fd))


def _read(fd: int) -> dict[str, Any]:
    try:
        note = json.loads(os.pread(fd, 1000, 0))
    except ValueError:  # torn, or cut to nothing
        return {}
    return note if isinstance(note, dict) else {}


def _holder(note: dict[str, Any]) -> str:
    return f"process {note['pid']} since {note['since']}" if {"pid", "since"} <= note.keys() else "another process"
