"""Files to upload, and threads that guard them as an upload's own does."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmpu._source import Source, resolve
from fastmpu.errors import UsageError

MakeFile = Callable[..., Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes a file of random bytes, last modified some time ago, so that every later write shows in its mtime."""

    def make(size: int = 3_000_001, name: str = "source.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(random.Random(size).randbytes(size))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        return path

    return make


@pytest.fixture
def mappable(tmp_path: Path) -> None:
    """Skips where no map is to be had: not Linux, an old kernel, or a file system of another kind."""
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    try:
        resolve(probe, read="mmap").close()
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["mmap", "pread"])
def read(request: pytest.FixtureRequest) -> str:
    """Both ways of reading a file."""
    mode: str = request.param
    if mode == "mmap":
        request.getfixturevalue("mappable")
    return mode


@contextlib.contextmanager
def guarded(source: Source) -> Iterator[None]:
    """Polls `serve_lease` every 5 ms, as `_upload`'s guard does."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(0.005):
            source.serve_lease()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
