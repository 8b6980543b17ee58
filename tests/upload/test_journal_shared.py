"""One journal, many jobs at once: in threads, and in processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._upload.job_log import open_journal
from fastmpu._upload.journal import journal_path, opening
from fastmpu._upload.object_lock import ObjectLock
from fastmpu.errors import UploadInProgressError

KiB = 1 << 10
JOBS = 6
PROGRAM = """
import sys, threading
import fastmpu
endpoint, source, journal, first, count = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
client = fastmpu.Client(endpoint)
def send(number):
    fastmpu.upload(source, f"ais://bucket/{number}", client=client, part_size="16KiB", journal=journal)
threads = [threading.Thread(target=send, args=(int(first) + number,)) for number in range(int(count))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(os.urandom(64 * KiB))
    return path


@pytest.fixture
def client(cluster: mock.Cluster) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(cluster.endpoint) as client:
        client.bucket("bucket").create()
        yield client


def states(journal: Path) -> list[str]:
    store = open_journal(journal)
    try:
        return [entry.state for _, entry in store.entries()]
    finally:
        store.close()


def locks(path: Path) -> list[str]:
    """The kernel's locks on a file, without their numbers in its list, which all processes share."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line.partition(": ")[2] for line in lines if f":{inode} " in line]


@pytest.mark.parametrize("processes", [1, 3])
def test_all_begin_at_once(
    client: fastmpu.Client, cluster: mock.Cluster, source: Path, tmp_path: Path, processes: int
) -> None:
    """None takes what another one is just making for a stranger's, and puts it aside: all are noted."""
    for turn in range(4):
        journal = tmp_path / f"turn-{turn}" / "journal.sqlite3"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, cluster.endpoint, source, journal, str(number * JOBS), str(JOBS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.communicate("\n", timeout=60) == ("", "")
        assert states(journal) == ["done"] * JOBS * processes
        assert not list(journal.parent.glob("*.bad*"))


def test_all_threads_open_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for turn in range(20):
        path = tmp_path / f"turn-{turn}" / "journal.sqlite3"
        together = threading.Barrier(JOBS)

        def open_it(path: Path = path, together: threading.Barrier = together) -> None:
            together.wait()
            open_journal(path).close()

        with ThreadPoolExecutor(JOBS) as pool:
            for future in [pool.submit(open_it) for _ in range(JOBS)]:
                future.result()
    assert caplog.text == ""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells which locks there are")
def test_a_second_job_leaves_the_first_ones_locks_alone(tmp_path: Path) -> None:
    """The kernel forgets a process's locks on a file as soon as the process closes any descriptor of it: SQLite would
    then take the first job's database for one that nobody uses."""
    path = tmp_path / "journal.sqlite3"
    first = open_journal(path)
    held = locks(path)
    assert held
    second = open_journal(path)
    assert locks(path) == held
    second.close()
    assert locks(path) == held
    first.close()
    assert locks(path) == []


def test_somebody_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: fastmpu.Client) -> None:
    """As a process that was stopped just then: the upload goes on without a journal."""
    monkeypatch.setattr("fastmpu._upload.journal.BUSY_SECONDS", 0.1)
    path = tmp_path / "journal.sqlite3"
    held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        target = client.bucket("bucket").object("o")
        assert target.upload(b"x" * 100, part_size=50, journal=str(path)).verified == "head"
        assert not path.exists()
    finally:
        os.close(held)
    assert target.upload(b"x" * 100, part_size=50, journal=str(path)).verified == "head"
    assert states(path) == ["done"]


def test_a_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    """It has a copy of every descriptor of its parent's, and lives on."""
    path = tmp_path / "journal.sqlite3"
    lock = ObjectLock(tmp_path / "locks", "cluster", "uri")
    with opening(path):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:  # a branch of this test that must not end as one
            os.close(writer)
            lock.release()  # its parent's
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
    try:
        with opening(path):
            pass
        with pytest.raises(UploadInProgressError):
            ObjectLock(tmp_path / "locks", "cluster", "uri")
        lock.release()
        ObjectLock(tmp_path / "locks", "cluster", "uri").release()
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite3"
    link = tmp_path / "link.sqlite3"
    link.symlink_to(path)
    open_journal(path).close()
    path.unlink()
    open_journal(journal_path(str(link))).close()
    assert not Path(f"{link}.lock").exists()
    assert [each.stat().st_mode & 0o777 for each in (path.parent, path)] == [0o700, 0o600]
