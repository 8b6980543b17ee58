"""Somebody else changes the file. It is noticed, the process lives, and the other one does not wait long."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmpu._source import resolve
from fastmpu._source.mapped_file import File, unreadable
from fastmpu._source.mounts import file_system_of
from fastmpu.errors import SourceChangedError, SourceError, UsageError

from .conftest import MakeFile, guarded

MiB = 1 << 20


def truncate(path: Path) -> None:
    os.truncate(path, 1000)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"other bytes, same size")


def edit_and_put_the_time_back(path: Path) -> None:
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    os.replace(other, path)


def unlink(path: Path) -> None:
    path.unlink()


def truncate_and_regrow(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


CHANGES = {
    "size: it was truncated from": truncate,
    "size: it grew from": grow,
    "mtime: it was written to": edit,
    "ctime: ": edit_and_put_the_time_back,
    "mtime: ": truncate_and_regrow,
}


@pytest.mark.parametrize(("field", "change"), CHANGES.items())
def test_a_change_is_refused_with_the_field_that_tells_it(
    make_file: MakeFile, read: str, field: str, change: Callable[[Path], None]
) -> None:
    path = make_file()
    with resolve(path, read=read) as source, guarded(source):
        source.check()
        change(path)
        with pytest.raises(SourceChangedError, match=f"source.bin' changed while it was uploaded: {field}"):
            source.check()


@pytest.mark.parametrize("change", [replace, unlink])
def test_a_file_that_lost_its_name_is_uploaded_as_it_was_opened(
    make_file: MakeFile, read: str, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = make_file()
    data, seen = path.read_bytes(), bytearray()
    with resolve(path, read=read) as source:
        change(path)
        with source.open_part(0, source.size) as part:
            part.feed(0, source.size, seen.extend)
        with caplog.at_level(logging.WARNING, "fastmpu"):
            source.check()
            source.check()
        assert seen == data
        assert len(caplog.records) == 1  # said once
        assert "was unlinked, replaced or linked" in caplog.text
        with source.open_part(0, 1) as part:
            assert part.fileno is not None
            os.chmod(part.fileno, 0o600)
        with pytest.raises(SourceChangedError, match="ctime"):  # later changes still count
            source.check()


def test_a_file_that_ends_early_is_never_padded(make_file: MakeFile, read: str) -> None:
    path = make_file(3 * MiB)
    with resolve(path, read=read) as source, guarded(source), source.open_part(0, source.size) as part:
        os.truncate(path, 30_000)
        seen = bytearray()
        with pytest.raises(SourceChangedError, match="nothing is left at byte 30000 of 3145728"):
            part.feed(0, source.size, seen.extend)
        with pytest.raises(SourceChangedError, match="nothing is left at byte 30000 of"):
            part.view(29_000, 2_000)
        assert not seen


@pytest.mark.parametrize("change", [truncate, grow, edit, replace, unlink, truncate_and_regrow])
def test_whatever_happens_when_the_bytes_are_right_or_it_is_noticed(
    make_file: MakeFile, read: str, change: Callable[[Path], None]
) -> None:
    """Thirty files, each changed at another moment by a thread that does not know of us."""
    for round_ in range(30):
        path = make_file(2 * MiB)
        right = hashlib.sha256(path.read_bytes()).digest()
        with resolve(path, read=read) as source, guarded(source):
            other = threading.Timer(round_ * 0.0002, change, [path])
            other.start()
            try:
                digest = hashlib.sha256()
                for at in range(0, source.size, MiB):
                    with source.open_part(at, MiB) as part:
                        part.feed(at, MiB, digest.update)
                source.check()
            except SourceChangedError:
                pass
            else:
                assert digest.digest() == right
            finally:
                other.join()
        path.unlink(missing_ok=True)


READ_FOREVER = """
import sys, threading, time
from fastmpu._source import resolve
from fastmpu._source.mounts import file_system_of
from fastmpu.errors import SourceChangedError
with resolve(sys.argv[1], read=sys.argv[2]) as source:
    def guard():
        while source.serve_lease():
            time.sleep(0.01)
    thread = threading.Thread(target=guard); thread.start()
    print(source.reading, flush=True)
    try:
        while True:
            with source.open_part(0, source.size) as part:
                part.feed(0, source.size, hash_it := __import__("hashlib").sha256().update)
            source.check()
    except SourceChangedError as error:
        print(error)
    thread.join()
"""


def test_a_truncated_map_does_not_kill_the_process(make_file: MakeFile, read: str) -> None:
    """Nor does the signal that the kernel sends when the lease is to be given up."""
    path = make_file(16 * MiB)
    with subprocess.Popen(
        [sys.executable, "-c", READ_FOREVER, str(path), read], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{read}\n"
        time.sleep(0.05)
        began = time.monotonic()
        os.truncate(path, 1000)
        waited = time.monotonic() - began
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "changed while it was uploaded" in output
    assert waited < 10  # some ms; the kernel itself would have waited 45 s


def test_a_writer_is_let_in_while_all_workers_wait(make_file: MakeFile, mappable: None) -> None:
    """No window is read, as when the network stalls: the guard gives the lease up."""
    path = make_file()
    with resolve(path, read="mmap") as source, source.open_part(0, source.size) as part:
        part.feed(0, 1000, len)
        assert source.serve_lease()
        began = time.monotonic()
        with guarded(source):
            edit(path)
        assert time.monotonic() - began < 10
        assert source.reading == "pread"
        assert not source.serve_lease()
        seen = bytearray()
        part.feed(0, source.size, seen.extend)
        assert seen == path.read_bytes()  # still readable; whether it may be used is for check
        with pytest.raises(SourceChangedError):
            source.check()


def test_a_worker_lets_a_writer_in_by_itself(make_file: MakeFile, mappable: None) -> None:
    path = make_file()
    with resolve(path, read="mmap") as source, source.open_part(0, source.size) as part:
        writer = threading.Thread(target=edit, args=(path,))
        writer.start()
        while source.reading == "mmap":
            part.feed(0, source.size, len)
        writer.join(timeout=60)
        assert not writer.is_alive()
        with pytest.raises(SourceChangedError):
            source.check()


def test_a_writer_waits_for_the_window_that_is_being_read(make_file: MakeFile, mappable: None) -> None:
    """The truncater comes while a window of the map is in use: nobody lets it in before that window is done with."""
    path = make_file(2 * MiB)
    writer = threading.Thread(target=truncate, args=(path,))
    waited: list[bool] = []

    def slow(view: memoryview) -> None:
        if not waited:
            writer.start()
            writer.join(timeout=0.3)
            waited.append(writer.is_alive())
            hashlib.sha256(view)  # would be SIGBUS

    with resolve(path, read="mmap") as source, guarded(source), source.open_part(0, source.size) as part:
        part.feed(0, 500_000, slow)
        writer.join(timeout=60)
        assert not writer.is_alive()
        with pytest.raises(SourceChangedError, match="truncated"):
            source.check()
    assert waited == [True]


def test_somebody_who_only_looks_for_a_moment_changes_nothing(make_file: MakeFile, mappable: None) -> None:
    path = make_file()
    with resolve(path, read="mmap") as source, guarded(source):
        path.open("r+b").close()
        assert source.reading == "pread"
        source.check()


def test_a_map_is_refused_while_a_writer_is_there(make_file: MakeFile, mappable: None) -> None:
    path = make_file(8 * MiB)
    with path.open("r+b"):
        with resolve(path) as source:
            assert source.reading == "pread"
        with pytest.raises(UsageError, match=r"read='mmap' cannot be had for .*open for writing. Use read='auto'"):
            resolve(path, read="mmap")


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "cifs", "9p", "lustre", "zfs", "something-new"])
def test_only_known_local_file_systems_are_mapped(make_file: MakeFile, mappable: None, kind: str) -> None:
    path = make_file(8 * MiB)
    mountinfo = "\n".join(
        f"{before} - {kind} {after.split(' ', 1)[1]}"
        for before, after in (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    )
    with File(os.open(path, os.O_RDONLY), str(path), mountinfo=mountinfo) as source:
        assert source.reading == "pread"
    with pytest.raises(UsageError, match=f"it lies on {kind}, where a map is not safe"):
        File(os.open(path, os.O_RDONLY), str(path), read="mmap", mountinfo=mountinfo)
    with pytest.raises(UsageError, match="it lies on an unknown file system"):
        File(os.open(path, os.O_RDONLY), str(path), read="mmap", mountinfo="")


def test_where_nothing_tells_the_file_system_it_is_unknown() -> None:
    assert file_system_of(-1) is None


def test_a_stale_handle_means_another_file_and_other_errors_do_not() -> None:
    assert type(unreadable(OSError(errno.ESTALE, "Stale file handle"), "cannot read")) is SourceChangedError
    error = unreadable(OSError(errno.EIO, "Input/output error"), "cannot read 'x' at byte 5")
    assert type(error) is SourceError
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert copy.errno == errno.EIO
        assert "cannot read 'x' at byte 5: Input/output error" in str(copy)
