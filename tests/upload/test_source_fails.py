"""Each system call on the source fails in turn (SQLite's method): a named error or a proved object, nothing is left
over, and the same call again, without the fault, ends proved.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._upload import lease_guard, part_body

PART, PARTS = 64 * 1024, 5
OLD = b"what was there before"
CONTENT = random.Random(66).randbytes((PARTS - 1) * PART + 4_321)
CALLS = (
    *((os, name) for name in ("open", "stat", "fstat", "set_blocking", "preadv", "pread", "sendfile")),
    (fcntl, "fcntl"),
    (mmap, "mmap"),
)


class Failing:
    """Fails the call number `nth` of those that the source's modules make, and those that read it for the socket."""

    def __init__(self, patch: pytest.MonkeyPatch, code: int):
        self.nth = 0
        self.seen: list[str] = []
        self._code = code
        self._lock = threading.Lock()
        for module, name in CALLS:
            patch.setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **more: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.startswith("fastmpu._source") or (name in ("sendfile", "pread") and "_transport" in caller):
                with self._lock:
                    self.seen.append(name)
                    fails = len(self.seen) == self.nth
                if fails:
                    raise OSError(self._code, os.strerror(self._code))
            return call(*arguments, **more)

        return called


def open_ones(path: Path) -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return [name for name in found if name == str(path)]


@pytest.mark.parametrize("read", ["pread", "mmap"])
@pytest.mark.parametrize(
    ("engine", "concurrency", "code"),
    [
        ("inline", 1, errno.EIO),
        ("inline", 1, errno.ESTALE),
        ("inline", 1, errno.EMFILE),
        ("thread", 2, errno.EIO),
        ("thread", 1, errno.EIO),
    ],
)
def test_the_nth_call_of_the_source_fails(
    obj: fastmpu.Object,
    cluster: mock.Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    concurrency: int,
    code: int,
    read: str,
) -> None:
    """With its parts kept, so that there is something to go on with, and aborted, so that nothing may be left."""
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    status = os.stat(path)
    notes = str(tmp_path / "state" / "journal.sqlite3")
    inside = cluster.bucket("bucket")
    monkeypatch.setattr(lease_guard, "POLL", 60.0)  # how often it asks is a matter of time
    monkeypatch.setattr(part_body, "HASH_STEP", PART // 3)
    failing = Failing(monkeypatch, code)
    options = {"part_size": PART, "max_concurrency": concurrency, "engine": engine, "journal": notes, "read": read}
    resumed = 0
    while True:
        nth = failing.nth + 1
        inside.put(obj.name, OLD)
        failing.seen, failing.nth = [], nth
        kept = nth % 2 == 0
        try:
            receipt = obj.upload(path, **options, on_error="keep" if kept else "abort")
        except fastmpu.FastMPUError:
            assert inside.read(obj.name) == OLD
            assert kept or not list(obj.bucket.list_uploads())
        else:
            assert receipt.verified == "head"
            assert inside.read(obj.name) == CONTENT
        untouched = len(failing.seen) < nth
        failing.nth = 0
        receipt = obj.upload(path, **options)
        resumed += receipt.resumed > 0
        assert receipt.verified == "head"
        assert inside.read(obj.name) == CONTENT
        assert list(obj.bucket.list_uploads()) == []
        assert cluster.truth.violations() == []
        assert open_ones(path) == []
        assert [each for each in threading.enumerate() if each.name.startswith("fastmpu")] == []
        if untouched:
            break
        failing.nth = nth
    assert nth > 4 * PARTS
    assert resumed
    assert path.read_bytes() == CONTENT
    assert (os.stat(path).st_mtime_ns, os.stat(path).st_ino) == (status.st_mtime_ns, status.st_ino)
