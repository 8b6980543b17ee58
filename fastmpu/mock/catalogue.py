"""A book of records in one file, which survives the process that keeps it: JSON lines, the last one of a key counts.

A change is one line appended by one write, so a process that is killed leaves whole lines; a torn one at the end, as a
crash of the machine may leave, is not believed. What it names has been written before. On opening, the lines that count
are written to a new file, which then takes the old one's name.

Threads: any. One lock guards the table and the file. A lock on the file keeps other processes out.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

__all__ = ["Catalogue"]


class Catalogue:
    """Records by key. `records` is what was there on opening, and is kept up to date."""

    def __init__(self, path: Path) -> None:
        """BlockingIOError (an OSError) if another cluster has it open."""
        self.records: dict[str, Any] = {}
        self._path = path
        self._lock = threading.Lock()
        self._guard: int | None = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
            self._compact()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except BlockingIOError as error:
            os.close(self._guard)
            raise BlockingIOError(error.errno, f"{path.parent} is in use by another mock cluster") from error
        except BaseException:
            os.close(self._guard)
            raise

    def put(self, key: str, record: Any) -> None:
        """Set a record; None drops it. After `close` nothing is written any more."""
        line = _line(key, record)
        with self._lock:
            if self._guard is None:
                return
            if record is None:
                if self.records.pop(key, None) is None:
                    return
            else:
                self.records[key] = record
            os.write(self._descriptor, line)

    def close(self) -> None:
        with self._lock:
            if self._guard is not None:
                os.close(self._descriptor)
                os.close(self._guard)
                self._guard = None

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # torn
            try:
                key, record = json.loads(line)
            except ValueError:
                break  # torn, and written over
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record

    def _compact(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(b"".join(_line(key, record) for key, record in self.records.items()))
        fresh.replace(self._path)


def _line(key: str, record: Any) -> bytes:
    return json.dumps([key, record], separators=(",", ":")).encode("ascii") + b"\n"
