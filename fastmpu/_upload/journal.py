"""What this machine knows of uploads that are under way: one SQLite database for all of a user's jobs.

It is a note for our own next run, never the truth: the cluster is asked before anything in here is acted on, and a
journal that is lost, damaged or of another version costs a resume, never data. A killed process loses nothing that was
committed; a machine that crashes may lose the last of it (WAL with synchronous=NORMAL), which the boot's id tells: then
every part that is not acknowledged is doubtful. Nothing waits for the disk.

Each job has a connection of its own, used by the thread that called `upload()` alone; SQLite keeps processes apart. But
making, examining and setting aside is not SQLite's to guard: `opening` does that, by a lock in a file of its own. All
methods raise what sqlite3 and the system raise: job_log.py decides what becomes of it. Nothing secret is written.

No descriptor of an existing database is ever opened and closed here beside SQLite's own: the kernel would take the
locks of all its connections in this process away (sqlite.org/howtocorrupt.html, section 2.2).

Every row carries a CRC32C of its values, and an upload's row says how many parts it has, for a flipped bit in a
database is not noticed by SQLite.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from .._checksum import Crc32c
from .file_lock import try_lock, unlock

logger = logging.getLogger("fastmpu")

APPLICATION_ID: Final = 0x666D7075  # "fmpu", in the file's head
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
KEEP_ENDED: Final = 100  # ended uploads whose rows stay, for whoever looks; few, since the file is checked whole
_LOOK_SECONDS: Final = 0.005
_OPEN_STATES: Final = ("open", "completing")
_SCHEMA: Final = """
CREATE TABLE uploads (id INTEGER PRIMARY KEY, cluster, endpoint, uri, upload_id, source, identity, size, part_size,
    settings, created, updated, boot, pid, state, begun, acknowledged, seal);
CREATE UNIQUE INDEX by_upload_id ON uploads (cluster, upload_id);
CREATE TABLE parts (upload INTEGER, number INTEGER, checksums, seal, PRIMARY KEY (upload, number)) WITHOUT ROWID;
"""


class DamagedError(Exception):
    """The database is not ours, not of this version, or not whole. Never leaves `_upload`."""


@dataclass(frozen=True)
class Entry:
    """One upload id. `source`: the absolute path as bytes, b"" for a buffer. `identity`: numbers of the open file, as
    JSON. `settings`: what must be the same for a resume, as JSON. Times are seconds of the wall clock. `boot`: this
    boot of this kernel and network namespace. `state`: open, completing, done, aborted, lost or abort-pending."""

    cluster: str
    endpoint: str
    uri: str
    upload_id: str
    source: bytes
    identity: str
    size: int
    part_size: int
    settings: str
    created: float
    updated: float
    boot: str
    pid: int
    state: str = "open"
    begun: int = 0
    acknowledged: int = 0

    @property
    def path(self) -> str:
        return os.fsdecode(self.source)


_COLUMNS: Final = tuple(each.name for each in fields(Entry))
_SELECT: Final = f"SELECT id, {', '.join(_COLUMNS)}, seal FROM uploads"
_UPSERT: Final = (
    f"INSERT OR REPLACE INTO uploads (id, {', '.join(_COLUMNS)}, seal) VALUES ({', '.join('?' * (len(_COLUMNS) + 2))})"
)
_ENDED: Final = "state IN ('done', 'aborted', 'lost')"
_LAST_ENDED: Final = f"SELECT id FROM uploads WHERE {_ENDED} ORDER BY id DESC LIMIT ?"
_PUT_PART: Final = "INSERT OR REPLACE INTO parts (upload, number, checksums, seal) VALUES (?, ?, ?, ?)"


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Nobody else makes, examines or sets aside this database meanwhile; its directory is made. OSError when somebody
    else takes too long."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # it stays: who waits has it open
    try:
        until = time.monotonic() + BUSY_SECONDS
        while not try_lock(fd):
            if time.monotonic() > until:
                raise BlockingIOError(errno.EAGAIN, "another process has been opening it for too long", str(path))
            time.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            unlock(fd)
    finally:
        os.close(fd)


class Journal:
    """An open database. `path` is made for this user alone. Make it within `opening(path)`; close it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._examine()
        except BaseException as error:
            self._db.close()
            if type(error) in (sqlite3.DatabaseError, UnicodeDecodeError, ValueError, OverflowError):
                # "malformed" and "not a database"; locked, full and read-only are OperationalErrors
                raise DamagedError(str(error)) from error
            raise

    def _examine(self) -> None:
        ask = self._db.execute
        version, application = ask("PRAGMA user_version").fetchone()[0], ask("PRAGMA application_id").fetchone()[0]
        if (version, application) == (0, 0) and not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            ask("PRAGMA journal_mode=WAL")
            with self._transaction():
                for statement in _SCHEMA.strip().split(";\n"):
                    ask(statement)
                ask(f"PRAGMA application_id={APPLICATION_ID}")
                ask(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif application != APPLICATION_ID:
            raise DamagedError("it is another program's database")
        elif version != SCHEMA_VERSION:
            raise DamagedError(f"its version is {version}, and this fastmpu knows {SCHEMA_VERSION}")
        ask("PRAGMA synchronous=NORMAL")
        whole = ask("PRAGMA quick_check(1)").fetchone()[0]
        if whole != "ok":
            raise DamagedError(str(whole))
        for table in ("uploads", "parts"):
            if ask("SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?", (table,)).fetchone()[0] != 1:
                raise DamagedError(f"it has no table {table!r}")

    def close(self) -> None:
        self._db.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> int:
        """A new upload id; a process that is killed after this leaves it behind. The row's number."""
        with self._transaction():
            self._db.execute(f"DELETE FROM uploads WHERE {_ENDED} AND id NOT IN ({_LAST_ENDED})", (KEEP_ENDED,))
            row = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM uploads").fetchone()[0]
            self._db.execute("DELETE FROM parts WHERE upload NOT IN (SELECT id FROM uploads)")
            self._put(row, entry)
        return int(row)

    def update(self, row: int, entry: Entry, parts: Mapping[int, str]) -> None:
        """The upload's row as it is now, and `parts`: number -> checksums as JSON, "" for one that was only begun."""
        with self._transaction():
            self._db.executemany(
                _PUT_PART,
                [(row, number, checksums, _seal(row, number, checksums)) for number, checksums in parts.items()],
            )
            self._put(row, entry)

    def end(self, row: int, entry: Entry) -> None:
        """An upload that is over keeps its row, and no parts."""
        with self._transaction():
            self._db.execute("DELETE FROM parts WHERE upload = ?", (row,))
            self._put(row, replace(entry, begun=0, acknowledged=0))

    def end_upload(self, upload_id: str, state: str) -> None:
        """The same by upload id, for one of another job."""
        for row, entry in self.entries("upload_id = ?", upload_id):
            self.end(row, replace(entry, state=state, updated=time.time()))

    def _put(self, row: int, entry: Entry) -> None:
        values = (row, *vars(entry).values())
        self._db.execute(_UPSERT, (*values, _seal(*values)))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    # --- reading ------------------------------------------------------------------------------------------------------

    def entries(self, where: str = "1", *arguments: str) -> Iterator[tuple[int, Entry]]:
        """Uploads that are whole rows, the oldest first. `where`: SQL on the columns, its values in `arguments`."""
        for row, *values, seal in self._db.execute(f"{_SELECT} WHERE {where} ORDER BY id", arguments).fetchall():
            if _seal(row, *values) == seal:
                yield row, Entry(*values)
            else:
                logger.warning("%s: the note of upload %r is damaged and not used", self.path, values[3])

    def unfinished(self, cluster: str, uri: str) -> Iterator[tuple[int, Entry]]:
        """Those of one object that may go on, the newest first."""
        found = list(self.entries("cluster = ? AND uri = ?", cluster, uri))
        return iter([each for each in reversed(found) if each[1].state in _OPEN_STATES])

    def parts(self, row: int, entry: Entry) -> dict[int, str]:
        """Number -> checksums as JSON, "" if begun. DamagedError unless they are as many as the upload's row says."""
        found: dict[int, str] = {}
        for number, checksums, seal in self._db.execute(
            "SELECT number, checksums, seal FROM parts WHERE upload = ?", (row,)
        ):
            if _seal(row, number, checksums) != seal:
                raise DamagedError(f"the note of part {number!r} is damaged")
            found[number] = checksums
        acknowledged = sum(map(bool, found.values()))
        if (len(found), acknowledged) != (entry.begun, entry.acknowledged):
            raise DamagedError(
                f"it has {len(found)} parts, {acknowledged} acknowledged, and should have {entry.begun} and "
                f"{entry.acknowledged}"
            )
        return found


class _Transaction:
    """All or nothing, written at its end; readers are never kept waiting."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:  # SQLite rolls some back by itself
            self._db.execute("ROLLBACK")


def set_aside(path: Path) -> Path:
    """A database that cannot be used becomes `*.bad`, for whoever wants to look; the last such file is replaced."""
    bad = path.with_name(path.name + ".bad")
    for suffix in ("-wal", "-shm", ""):
        try:
            os.replace(f"{path}{suffix}", f"{bad}{suffix}")
        except FileNotFoundError:
            continue
    return bad


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_STATE_HOME/fastmpu/journal.sqlite3`; by the XDG rules a relative value does not count."""
    home = environment.get("XDG_STATE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "state"
    return base / "fastmpu" / "journal.sqlite3"


def journal_path(choice: str) -> Path:
    """Where the journal is that `choice` names, which is not "off": one path, whatever leads there."""
    return Path(os.path.realpath(default_path() if choice in ("auto", "required") else choice))


# Made once: `json.dumps` with options makes one each time, and this is done for each part.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def to_json(value: Any) -> str:
    return _ENCODER.encode(value)


def _seal(*values: Any) -> str:
    crc = Crc32c()
    crc.update(memoryview(repr(values).encode("utf-8", "backslashreplace")))
    return crc.hexdigest()


def numbers_of(parts: Mapping[int, str], *, acknowledged: bool) -> Iterable[int]:
    return sorted(number for number, checksums in parts.items() if bool(checksums) is acknowledged)
