"""Killed at any moment, an upload goes on where it was: nothing is sent twice that the cluster has."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from interposer import Interposer, refuse

import fastmpu
from bench.kills import ENGINES, PARTS, Round, scene
from fastmpu import mock
from fastmpu._upload import journal as journal_module
from fastmpu._upload import process_end
from fastmpu._upload.journal import DamagedError, Journal
from fastmpu.errors import (
    Cancelled,
    DeadlineError,
    FastMPUError,
    JournalError,
    ResumeError,
    SourceError,
    UploadInProgressError,
    UsageError,
)

PART, IN_FLIGHT = 64 * 1024, 3
KILLS, BATCHES = 40, 8
CONTENT = random.Random(6).randbytes((PARTS - 1) * PART + 12_345)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


def stopped(obj: fastmpu.Object, path: Path, notes: Path, at: int = 4, **options: Any) -> fastmpu.Object:
    """An upload that ended with about `at` parts stored, and was kept."""
    stop = threading.Event()

    def look(event: fastmpu.ProgressEvent) -> None:
        if event.acked >= at * PART:
            stop.set()

    with patch("fastmpu._upload.progress.INTERVAL", 0.0), pytest.raises(Cancelled):
        obj.upload(
            path,
            **{
                "part_size": PART,
                "engine": "inline",
                "journal": str(notes),
                "on_error": "keep",
                "progress": look,
                "cancel": stop,
                **options,
            },
        )
    return obj


def again(obj: fastmpu.Object, path: Path, notes: Path, **options: Any) -> fastmpu.Receipt:
    return obj.upload(path, **{"part_size": PART, "engine": "inline", "journal": str(notes), **options})


def judged(found: Round) -> None:
    """What every resume promises."""
    assert found.wrongs == ()
    assert (found.restarts, found.stored_twice) == (0, 0)


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", range(BATCHES // 2))
def test_killed_at_a_random_moment(tmp_path: Path, batch: int, engine: str) -> None:
    """SIGKILL: the same command again ends with a proved object, and sends again what was in flight. `python -m
    bench.kills` does so as often as one likes."""
    dice = random.Random(f"{batch} {engine}")
    with scene(tmp_path) as stage:
        for _ in range(KILLS // BATCHES):
            judged(stage.killed(engine, dice))


@pytest.mark.parametrize(("when", "engine"), [("before", "thread"), ("after", "thread"), ("after", "process")])
def test_killed_at_each_write_of_the_journal(tmp_path: Path, when: str, engine: str) -> None:
    """From the first note to the last; when the object is whole already, it is found and proved, and nothing sent."""
    event = 0
    with scene(tmp_path) as stage:
        while True:
            event += 1
            process = stage.start(engine, event, when)
            process.communicate()
            if process.returncode == 0:
                break
            judged(stage.go_on(engine, "killed"))
    assert event > PARTS / 2


# --- what the cluster has ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [(), (2,), (3, 5), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("engine", ["inline", "thread"])
def test_parts_whose_answer_was_not_noted(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path, lost: tuple[int, ...], engine: str
) -> None:
    """The notes of some stored parts are lost, as by a crash: the cluster is asked, gap by gap; none is sent twice."""
    stopped(obj, path, notes, at=5)
    store = Journal(notes)
    ((row, entry),) = store.entries()
    parts = store.parts(row, entry)
    stored = [number for number, checksums in parts.items() if checksums]
    doubtful = {number: "" for number in lost if number in stored}
    store.update(row, replace(entry, acknowledged=len(stored) - len(doubtful)), doubtful)
    store.close()
    receipt = again(obj, path, notes, engine=engine, max_concurrency=IN_FLIGHT)
    assert receipt.resumed == len(stored)
    assert receipt.attempts == PARTS - len(stored)
    assert obj.get_reader().read_all() == CONTENT
    assert cluster.truth.violations() == []


def test_an_upload_that_the_cluster_has_lost(
    obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path
) -> None:
    """A target that restarted knows nothing: a fresh start, at once."""
    stopped(obj, path, notes)
    for target in cluster.targets:
        target.restart()
    receipt = again(obj, path, notes)
    assert (receipt.resumed, receipt.restarts) == (0, 1)
    assert obj.get_reader().read_all() == CONTENT
    stopped(obj, path, notes)
    for target in cluster.targets:
        target.restart()
    obj.delete()
    with pytest.raises(ResumeError, match="does not know upload"):
        again(obj, path, notes, resume="require")


def test_what_does_not_fit_the_notes(obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path) -> None:
    """The cluster has parts that the journal does not know: nothing is guessed, the object starts again."""
    stopped(obj, path, notes)
    store = Journal(notes)
    ((row, entry),) = store.entries()
    store.end(row, entry)  # and with it the notes of all parts
    store.close()
    receipt = again(obj, path, notes)
    assert (receipt.resumed, receipt.restarts) == (0, 1)
    assert obj.get_reader().read_all() == CONTENT
    assert fastmpu.unfinished_uploads(journal=str(notes)) == []  # the old one was aborted, and that was noted


# --- what must be the same --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ("edit", {}, "not the file that it was"),
        ("", {"part_size": 2 * PART}, "parts of 65536"),
        ("", {"checksum": "xxhash"}, "begun with"),
        ("old", {}, "more than a day"),
        ("crc", {}, "another crc32c"),
        ("moved", {}, "nobody vouches"),
        ("", {"resume": "never"}, ""),
    ],
)
def test_a_fresh_start_where_something_differs(
    obj: fastmpu.Object,
    cluster: mock.Cluster,
    path: Path,
    notes: Path,
    caplog: pytest.LogCaptureFixture,
    change: str,
    options: dict[str, Any],
    reason: str,
) -> None:
    """With its reason; the parts of the old upload are cleared away by the next job."""
    stopped(obj, path, notes)
    if change == "edit":
        path.write_bytes(CONTENT[::-1])
    elif change == "moved":
        shutil.rmtree(notes.parent / "locks")  # it was the database alone
    elif change:
        store = Journal(notes)
        (row, entry), *_ = store.entries()
        parts = store.parts(row, entry)
        old = replace(entry, created=entry.created - 90_000 * (change == "old"))
        store.update(row, old, {2: '{"crc32c":"00000000"}'} if change == "crc" else {})
        assert 2 in parts
        store.close()
    with caplog.at_level(logging.INFO, "fastmpu"):
        receipt = again(obj, path, notes, **options)
    assert reason in caplog.text
    assert receipt.resumed == 0
    assert obj.get_reader().read_all() == path.read_bytes()
    if reason:
        again(obj, path, notes)
        assert fastmpu.unfinished_uploads(journal=str(notes)) == []
        assert cluster.truth.attempts(op="abort")


def test_required(obj: fastmpu.Object, path: Path, notes: Path) -> None:
    """Nothing is sent if there is nothing to go on with."""
    with pytest.raises(ResumeError, match="no unfinished upload"):
        again(obj, path, notes, resume="require")
    with pytest.raises(UsageError, match="journal"):
        again(obj, path, notes, resume="require", journal="off")
    stopped(obj, path, notes)
    assert again(obj, path, notes, resume="require").resumed == 4


def test_another_boot_waits(
    obj: fastmpu.Object, path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch, cluster: mock.Cluster
) -> None:
    """After a crash of the machine only time ends what was under way; and a clock that was set back makes it the whole
    time."""
    stopped(obj, path, notes)
    monkeypatch.setattr(process_end, "OTHER_BOOT", 0.5)
    monkeypatch.setattr("fastmpu._upload.job_log.this_boot", lambda: "another boot")
    monkeypatch.setattr(process_end, "this_boot", lambda: "another boot")
    began = time.monotonic()
    assert again(obj, path, notes).resumed == 4
    assert time.monotonic() - began > 0.3
    assert obj.get_reader().read_all() == CONTENT


@pytest.mark.parametrize("engine", ["inline", "thread"])
@pytest.mark.parametrize("left", [{2: ""}, {2: "", 3: "", 4: "", 6: ""}, {}, {2: "ok", 7: ""}], ids=str)
def test_notes_that_a_crash_of_the_machine_took_along(
    obj: fastmpu.Object, path: Path, notes: Path, cluster: mock.Cluster, left: dict[int, str], engine: str
) -> None:
    """Parts 2 to 5 are stored, and the disk has older notes than that. A count cannot tell which parts it counts, so
    after another boot whatever is not acknowledged is located; also when the job that does it is killed meanwhile."""
    stopped(obj, path, notes)
    store = Journal(notes)
    ((row, entry),) = store.entries()
    noted = store.parts(row, entry)
    assert sorted(number for number in noted if noted[number]) == [2, 3, 4, 5]
    kept = {number: noted[number] if state else "" for number, state in left.items()}
    acknowledged = sum(map(bool, kept.values()))
    with closing(sqlite3.connect(notes)) as database, database:
        database.execute("DELETE FROM parts")
    before = replace(entry, boot="another boot", updated=entry.updated - 3600)
    store.update(row, replace(before, begun=len(kept), acknowledged=acknowledged), kept)
    store.close()
    stopped(obj, path, notes, at=6, engine=engine, max_concurrency=1)
    receipt = again(obj, path, notes, engine=engine)
    assert receipt.restarts == 0
    assert receipt.resumed >= 5
    assert obj.get_reader().read_all() == CONTENT
    assert cluster.truth.violations() == []
    assert len(cluster.truth.attempts(op="part", outcome="stored")) == len(receipt.parts)


def test_progress_begins_with_what_is_there(obj: fastmpu.Object, path: Path, notes: Path) -> None:
    stopped(obj, path, notes)
    events: list[fastmpu.ProgressEvent] = []
    receipt = again(obj, path, notes, progress=events.append)
    first = next(event for event in events if event.resumed)
    assert first.acked >= first.resumed == 4 * PART
    assert receipt.bytes_sent == len(CONTENT) - 4 * PART
    assert receipt.size == len(CONTENT)


# --- the journal itself -----------------------------------------------------------------------------------------------


def test_a_journal_is_private_and_has_no_token(cluster: mock.Cluster, path: Path, notes: Path) -> None:
    with fastmpu.Client(cluster.endpoint, token="a-token-nobody-may-see") as client:
        obj = client.bucket("bucket").create().object("object")
        stopped(obj, path, notes)
        assert notes.stat().st_mode & 0o777 == 0o600
        for file in notes.parent.rglob("*"):
            assert not file.is_file() or b"nobody-may-see" not in file.read_bytes()


@pytest.mark.parametrize(("kind", "warned"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), (None, False)])
def test_a_journal_on_a_network_file_system(
    obj: fastmpu.Object,
    path: Path,
    notes: Path,
    kind: str | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is used, and the danger is told."""
    monkeypatch.setattr("fastmpu._upload.job_log.file_system_at", lambda _: kind)
    again(obj, path, notes)
    assert ("locks may not hold" in caplog.text) is warned


def test_two_jobs_for_one_object(obj: fastmpu.Object, path: Path, notes: Path) -> None:
    """The second is told who is at it, before it sends anything; when the first has ended, it may."""
    told: list[str] = []

    def second(event: fastmpu.ProgressEvent) -> None:
        if event.acked and not told:
            with pytest.raises(UploadInProgressError) as caught:
                again(obj, path, notes)
            told.append(str(caught.value))

    again(obj, path, notes, progress=second)
    assert f"process {os.getpid()}" in told[0]
    again(obj, path, notes)
    assert list((notes.parent / "locks").iterdir()) == []


@pytest.mark.parametrize("required", [False, True])
def test_a_journal_that_cannot_be_written(
    obj: fastmpu.Object,
    path: Path,
    tmp_path: Path,
    required: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The upload goes on without, and says so once; `required` fails before anything is sent."""
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    if required:
        with pytest.raises(JournalError, match="required"):
            obj.upload(path, part_size=PART, journal="required")
        return
    obj.upload(path, part_size=PART)
    assert caplog.text.count("cannot be resumed") == 1
    assert obj.get_reader().read_all() == CONTENT


def test_the_nth_call_of_the_journal_fails(
    obj: fastmpu.Object,
    cluster: mock.Cluster,
    path: Path,
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each of its calls in turn, until a run needs no more calls: the object is right each time."""
    calls = [0]
    failing = [0]

    class Failing(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            self._count()
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> sqlite3.Cursor:
            self._count()
            return super().executemany(*arguments)

        def _count(self) -> None:
            calls[0] += 1
            if calls[0] == failing[0]:
                raise sqlite3.OperationalError("disk I/O error")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
    while True:
        failing[0] += 1
        calls[0] = 0
        caplog.clear()
        receipt = again(obj, path, notes)
        assert receipt.verified == "head"
        assert cluster.truth.violations() == []
        if calls[0] < failing[0]:
            break
        assert "disk I/O error" in caplog.text
    assert failing[0] > 15
    assert obj.get_reader().read_all() == CONTENT


@pytest.mark.parametrize("why", ["deadline", "cancel"])
@pytest.mark.parametrize(("fault", "how"), [("late_response", {"ms": 60_000}), ("status", {"code": 503})])
def test_a_cluster_that_does_not_say_which_it_is(
    cluster: mock.Cluster, path: Path, notes: Path, why: str, fault: str, how: dict[str, int]
) -> None:
    """It is the journal that asks first; cancel and deadline hold by then, within a request and between two."""
    cluster.bucket("bucket")
    cluster.faults.add(fault, op="map", times="always", **how)
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    options: dict[str, Any] = {"deadline": 0.3} if why == "deadline" else {"cancel": stop}
    options |= {"journal": str(notes), "part_size": PART, "retry": fastmpu.RetryPolicy(attempts=100, base=5.0)}
    with pytest.raises(DeadlineError if why == "deadline" else Cancelled):
        fastmpu.upload(path, "ais://bucket/object", endpoint=cluster.endpoint, **options)
    timer.join()
    assert cluster.truth.attempts(op="create") == []


# --- torn journals ----------------------------------------------------------------------------------------------------

VARIANTS, TORN_BATCHES = 4000, 16


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[mock.Cluster, Path, bytes]]:
    """A cluster with an unfinished upload, its source, and the journal's bytes."""
    home = tmp_path_factory.mktemp("torn")
    path = home / "source.bin"
    path.write_bytes(CONTENT)
    with mock.Cluster(targets=1) as cluster, fastmpu.Client(cluster.endpoint) as client:
        obj = client.bucket("bucket").create().object("object")
        stopped(obj, path, home / "journal.sqlite3")
        yield cluster, path, (home / "journal.sqlite3").read_bytes()


def spoilt(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content))
    if dice.random() < 0.3:
        return content[:at]
    return content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("batch", range(TORN_BATCHES))
def test_a_torn_journal_is_noticed(torn: tuple[mock.Cluster, Path, bytes], tmp_path: Path, batch: int) -> None:
    """Cut, or one bit flipped: what is still told of the upload is what was noted, or nothing is."""
    *_, content = torn
    good = tmp_path / "good.sqlite3"
    good.write_bytes(content)
    store = Journal(good)
    ((row, entry),) = store.entries()
    parts = store.parts(row, entry)
    store.close()
    dice = random.Random(batch)
    for number in range(VARIANTS // TORN_BATCHES):
        bad = tmp_path / f"{number}.sqlite3"
        bad.write_bytes(spoilt(content, dice))
        try:
            store = Journal(bad)
        except DamagedError:
            continue
        try:
            for at, found in store.entries():
                assert found == entry
                assert store.parts(at, found) == parts
        except (DamagedError, sqlite3.DatabaseError):
            pass
        finally:
            store.close()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("batch", range(5))
def test_an_upload_with_a_torn_journal(tmp_path: Path, path: Path, batch: int) -> None:
    """It goes on, or starts afresh; never another exception, never other bytes."""
    dice = random.Random(f"upload {batch}")
    with mock.Cluster(targets=1) as cluster, fastmpu.Client(cluster.endpoint) as client:
        obj = client.bucket("bucket").create().object("object")
        for number in range(12):
            notes = tmp_path / f"{number}" / "journal.sqlite3"
            stopped(obj, path, notes)
            notes.write_bytes(spoilt(notes.read_bytes(), dice))
            receipt = again(obj, path, notes)
            assert receipt.verified == "head"
            assert obj.get_reader().read_all() == CONTENT
            assert cluster.truth.violations() == []
            obj.delete()


@pytest.mark.parametrize("kind", ["text", "other program", "newer"])
def test_a_foreign_journal_is_set_aside(
    obj: fastmpu.Object, path: Path, notes: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kept as *.bad, with a warning; a fresh one takes its place."""
    notes.parent.mkdir()
    if kind == "text":
        notes.write_text("these are not the pages of a database" * 100)
    else:
        with sqlite3.connect(notes) as db:
            db.execute("CREATE TABLE t (x)")
            if kind == "newer":
                db.execute(f"PRAGMA application_id={journal_module.APPLICATION_ID}")
                db.execute("PRAGMA user_version=99")
        db.close()
    again(obj, path, notes)
    assert notes.with_name("journal.sqlite3.bad").exists()
    assert "kept as" in caplog.text
    stopped(obj, path, notes)
    assert again(obj, path, notes).resumed


# --- by id ------------------------------------------------------------------------------------------------------------


def test_by_id(cluster: mock.Cluster, obj: fastmpu.Object, path: Path, notes: Path) -> None:
    stopped(obj, path, notes)
    (left,) = fastmpu.unfinished_uploads(journal=str(notes))
    assert (left.source, left.acknowledged, left.parts, left.state) == (str(path), 4, PARTS, "open")
    receipt = fastmpu.resume(left.upload_id, journal=str(notes))
    assert receipt.resumed == 4
    assert obj.get_reader().read_all() == CONTENT
    with pytest.raises(ResumeError, match="uploads ls"):
        fastmpu.resume(left.upload_id, journal=str(notes))


def test_what_cannot_be_resumed_by_id(obj: fastmpu.Object, path: Path, notes: Path) -> None:
    """Each says what to do instead."""
    stopped(obj, path, notes)
    (left,) = fastmpu.unfinished_uploads(journal=str(notes))
    with mock.Cluster(targets=1) as other, pytest.raises(ResumeError, match="--endpoint"):
        fastmpu.resume(left.upload_id, endpoint=other.endpoint, journal=str(notes))
    with pytest.raises(UsageError, match="part_size"):
        fastmpu.resume(left.upload_id, journal=str(notes), part_size=1)
    path.rename(path.with_name("moved"))
    with pytest.raises(ResumeError, match="fastmpu cp"):
        fastmpu.resume(left.upload_id, journal=str(notes))
    assert isinstance(ResumeError("x"), FastMPUError)
    assert not issubclass(ResumeError, SourceError)


def test_cleared_away_by_id(obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path) -> None:
    stopped(obj, path, notes)
    (left,) = fastmpu.unfinished_uploads(journal=str(notes))
    assert fastmpu.abort_upload(left.upload_id, journal=str(notes)) is True
    assert fastmpu.unfinished_uploads(journal=str(notes)) == []
    assert list((notes.parent / "locks").iterdir()) == []
    assert cluster.stored_bytes == 0


def test_an_abort_that_failed_is_tried_again_by_the_next_job(
    obj: fastmpu.Object, tap: Interposer, path: Path, notes: Path
) -> None:
    tap.on("abort", refuse(500), times=3)
    stopped(obj, path, notes, on_error="abort")
    (left,) = fastmpu.unfinished_uploads(journal=str(notes))
    assert left.state == "abort-pending"
    again(obj, path, notes)
    assert fastmpu.unfinished_uploads(journal=str(notes)) == []
    assert tap.count("abort") == 1  # that came through
