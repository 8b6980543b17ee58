"""The journal as one job sees it: what it notes, and what becomes of the job when the journal fails.

Owner: the thread that called `upload()`; no other touches it. A part is noted as begun, and that is committed, before
its first byte can leave (with the parts that come next, so that this is not one commit a part). What was acknowledged
is committed within FLUSH_SECONDS: a kill before that makes parts doubtful, which costs probes, and no part twice.

A journal that cannot be written any more is given up: the upload goes on, cannot be resumed, and says so once. With
`journal="required"` that is a JournalError instead. The notes that are in it must not be believed from then on, since
parts follow that are not among them: the lock's file no longer vouches for them (object_lock.py). Where not even that
can be written, no such part follows: the object starts again, under an upload id of which nothing is noted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from .._source.mounts import LOCAL, file_system_at
from ..errors import JournalError
from .fence import StartAgain
from .journal import DamagedError, Entry, Journal, journal_path, opening, set_aside, to_json
from .object_lock import ObjectLock
from .process_end import this_boot

logger = logging.getLogger("fastmpu")

FLUSH_SECONDS: Final = 0.1
_FAILURES: Final = (sqlite3.Error, OSError, DamagedError)


class JobLog:
    """Notes of one `upload()`. Close it; what is not closed was killed, and is what a resume is for.

    `about` is the entry that each new upload id of the job gets. Made by `open_log`; `JobLog(None, ...)` notes nothing.
    """

    def __init__(
        self, journal: Journal | None, about: Entry | None, *, required: bool = False, lock: ObjectLock | None = None
    ):
        self._journal = journal
        self._about = about
        self._required = required
        self._lock = lock
        self._row = 0
        self._entry: Entry | None = None
        self._parts: dict[int, str] = {}  # as the journal will have them
        self._unwritten: set[int] = set()
        self._written_at = 0.0
        self._believed: JournalError | None = None  # notes of this upload id end too early, and nobody can be told

    @property
    def vouched_for(self) -> str:
        """The upload id whose notes are whole, as far as begun parts go."""
        return "" if self._lock is None else self._lock.vouches_for

    @property
    def about(self) -> Entry | None:
        """None: there is no journal (any more)."""
        return self._about if self._journal is not None else None

    @property
    def interval(self) -> float | None:
        """How soon `tick` is wanted, in seconds; None: not at all."""
        return FLUSH_SECONDS if self._unwritten else None

    # --- what happens -------------------------------------------------------------------------------------------------

    def opened(self, upload_id: str) -> None:
        """A new upload id of this job; written before this returns."""
        self._believed = None
        about = self.about
        if about is None:
            return
        now = time.time()
        entry = replace(about, upload_id=upload_id, created=now, updated=now)
        self._parts, self._unwritten = {}, set()
        self._entry = entry

        def add(journal: Journal) -> None:
            if self._lock is not None:
                self._lock.vouch(upload_id)
            self._row = journal.add(entry)

        self._try(add)

    def took_over(self, row: int, entry: Entry, parts: Mapping[int, str]) -> None:
        """The job goes on with an upload of an earlier one. `parts`: number -> checksums, "" for those in doubt."""
        assert self._about is not None
        self._row, self._parts = row, dict(parts)
        self._entry = replace(entry, boot=self._about.boot, pid=self._about.pid, state="open")
        # After a crash of the machine these are more than were noted, and from here on this boot's notes count.
        self._unwritten = {number for number, checksums in parts.items() if not checksums}
        self._write()

    def begin(self, number: int, next_ones: Iterable[int]) -> None:
        """Part `number` is about to be sent, and then these; written, at the latest, when this returns. StartAgain if
        it must not be sent under this upload id."""
        if number in self._parts:
            return
        if self._believed is not None:
            raise StartAgain(self._believed)
        if self._entry is None:
            return
        fresh = [each for each in (number, *next_ones) if each not in self._parts]
        self._parts.update(dict.fromkeys(fresh, ""))
        self._unwritten.update(fresh)
        self._write()
        if self._believed is not None:
            raise StartAgain(self._believed)

    def acknowledged(self, number: int, checksums: Mapping[str, str]) -> None:
        """Soon written; `tick` sees to it."""
        if self._entry is None:
            return
        self._parts[number] = to_json(dict(checksums))
        self._unwritten.add(number)
        self.tick()

    def tick(self) -> None:
        if self._unwritten and time.monotonic() - self._written_at >= FLUSH_SECONDS:
            self._write()

    def completing(self) -> None:
        """`complete` is about to be sent."""
        if self._entry is not None:
            self._entry = replace(self._entry, state="completing")
            self._write()

    def ended(self, state: str, upload_id: str | None) -> None:
        """`state`: done, aborted, lost, or abort-pending for one that could not be aborted. Also of an earlier id of
        this job. A failure here is only told: the upload is over."""
        if self._journal is None or upload_id is None:
            return
        if self._entry is not None and self._entry.upload_id == upload_id:
            self._entry = None
        try:
            self._journal.end_upload(upload_id, state)
        except _FAILURES as error:
            logger.warning("journal %s: the end of upload %s was not noted: %s", self._journal.path, upload_id, error)
        self._forget(upload_id)

    def mark(self, upload_id: str, state: str) -> None:
        """The new state of an upload that is not this job's own (any more)."""
        self._try(lambda journal: journal.end_upload(upload_id, state))
        self._forget(upload_id)

    def read(self, look: Callable[[Journal], None]) -> None:
        """`look` at the journal; damage is dealt with as when it is opened."""
        if self._journal is None:
            return
        try:
            look(self._journal)
        except DamagedError:
            raise
        except _FAILURES as error:
            self._fail(error)

    def close(self) -> None:
        if self._unwritten:
            self._write()
        if self._journal is not None:
            self._journal.close()
        if self._lock is not None:
            self._lock.release()
        self._journal = self._lock = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        entry = self._entry
        if self._journal is None or entry is None:
            return
        acknowledged = sum(map(bool, self._parts.values()))
        entry = self._entry = replace(entry, updated=time.time(), begun=len(self._parts), acknowledged=acknowledged)
        changed = {number: self._parts[number] for number in self._unwritten}
        self._try(lambda journal: journal.update(self._row, entry, changed))
        self._unwritten.clear()
        self._written_at = time.monotonic()

    def _try(self, action: Callable[[Journal], None]) -> None:
        if self._journal is None:
            return
        try:
            action(self._journal)
        except _FAILURES as error:
            self._fail(error)

    def _forget(self, upload_id: str) -> None:
        if self._lock is not None and self._lock.vouches_for == upload_id:
            self._lock.retract()

    def _fail(self, error: Exception) -> None:
        assert self._journal is not None
        path, journal, self._journal = self._journal.path, self._journal, None
        noted, self._entry = self._entry is not None, None
        journal.close()
        if self._lock is not None and not self._lock.retract(synced=True) and noted:
            self._believed = JournalError(
                f"journal {path}: {error}; and nothing there can tell that its notes end here"
            )
        _complain(path, error, self._required)


def open_log(choice: str, about: Callable[[], Entry]) -> JobLog:
    """`choice`: "auto", "required", "off", or the path of a database. `about` is asked only if there is a journal.

    UploadInProgressError while another job uploads the same object; JournalError as in JobLog.
    """
    if choice == "off":
        return JobLog(None, None)
    required = choice == "required"
    path = journal_path(choice)
    entry = about()
    try:
        lock = ObjectLock(path.parent / "locks", entry.cluster, entry.uri)
    except OSError as error:
        _complain(path, error, required)
        return JobLog(None, None)
    try:
        return JobLog(open_journal(path), entry, required=required, lock=lock)
    except _FAILURES as error:
        lock.release()
        _complain(path, error, required)
        return JobLog(None, None)
    except BaseException:
        lock.release()
        raise


def open_journal(path: Path) -> Journal:
    """The database; one that is damaged, foreign or newer is set aside, with a warning, and a fresh one is made."""
    with opening(path):
        try:
            journal = Journal(path)
        except DamagedError as error:
            bad = set_aside(path)
            logger.warning("journal %s cannot be used (%s): kept as %s; starting a fresh one", path, error, bad)
            return Journal(path)
    _warn_of_network(path)
    return journal


def _warn_of_network(path: Path) -> None:
    """SQLite's locks are not safe where another machine may hold them (sqlite.org/faq.html, question 5)."""
    kind = file_system_at(path)  # opens no descriptor in whose name locks could go (journal.py)
    if kind is not None and kind not in LOCAL and kind != "zfs":
        logger.warning("journal %s lies on %s, where its locks may not hold: give another path by journal=", path, kind)


def new_entry(
    *,
    cluster: str,
    endpoint: str,
    uri: str,
    source: str | None,
    identity: object,
    size: int,
    part_size: int,
    settings: object,
) -> Entry:
    """`source`: a path, made absolute here; None for a buffer."""
    return Entry(
        cluster=cluster,
        endpoint=endpoint,
        uri=uri,
        upload_id="",
        source=b"" if source is None else os.fsencode(os.path.abspath(source)),
        identity=to_json(identity),
        size=size,
        part_size=part_size,
        settings=to_json(settings),
        created=0.0,
        updated=0.0,
        boot=this_boot(),
        pid=os.getpid(),
    )


def _complain(path: Path, error: Exception, required: bool) -> None:
    if required:
        raise JournalError(
            f"journal {path}: {error}; journal='required' was asked for. With journal='auto' the upload would go on, "
            "and could not be resumed"
        ) from error
    logger.warning("journal %s: %s; the upload goes on and cannot be resumed", path, error)
