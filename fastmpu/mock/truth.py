"""The truth log: every request that reached a node, what became of its bytes, and what must never be seen in it.

A record begins when a request's head is there and *ends* when its handler has done all it will do; the answer goes out
after that, or not at all. An attempt without an end is alive, whatever its client believes.

Threads: any. A record belongs to the thread that serves the request until it has ended. One lock guards the list, what
is known of each upload, and the count of the living; `wait_until_quiet` waits on it.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from fastmpu.mock.operations import OBJECT_OPS, Operation

__all__ = ["Record", "Truth"]

_LIMIT = 50_000  # records; some 25 MB
_UPLOADS_LIMIT = 10_000
_VIOLATIONS_LIMIT = 1_000


@dataclass(slots=True, eq=False)
class Record:
    """One request at one node. Times are `time.monotonic()`'s.

    `outcome` is "alive" and later one of: "stored" (the part or object is there), "unlinked-by-repeat" (a part whose
    number was recorded already: both files are gone), "unlinked-late" (it ended after another attempt had stored the
    part, and took that along), "lost" (recorded, but another attempt had removed or replaced its file), "orphaned"
    (stored for an upload that was over), "refused", "broken" (the body did not come whole), "died" (the node ended
    under it), "redirected", and "done" for all else that went well.
    `status` is what the answer says or would have said, `answer` whether it went out: "sent", "cut" (its body broke
    off), "lost", or "" so far.
    """

    n: int
    node: str
    where: str
    connection: int
    op: str
    bucket: str
    name: str
    part: int | None
    upload_id: str
    announced: int  # bytes; -1 for chunked encoding
    started: float
    ended: float | None = None
    received: int = 0
    crc32c: str | None = None  # of the bytes received, of parts, and of objects up to 1 MiB
    outcome: str = "alive"
    status: int | None = None
    answer: str = ""
    faults: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        return self.ended is None

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in FIELDS}


FIELDS = tuple(item.name for item in fields(Record))


@dataclass
class _Upload:
    """What is known of one upload."""

    stored: dict[int, int] = field(default_factory=dict)  # part -> the number of the record that stored it
    living: list[Record] = field(default_factory=list)  # attempts of parts
    completing: list[Record] = field(default_factory=list)
    completed: bool = False

    @property
    def busy(self) -> bool:
        return bool(self.living or self.completing)


class Truth:
    """The log of one cluster: the latest `limit` records, and every violation seen."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._records: deque[Record] = deque(maxlen=limit)
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._violations: deque[str] = deque(maxlen=_VIOLATIONS_LIMIT)
        self._count = 0
        self._living = 0

    def clear(self) -> None:
        """Forget all that has ended. Attempts that live stay known."""
        with self._lock:
            living = [record for record in self._records if record.alive]
            self._records.clear()
            self._records.extend(living)
            for key in [key for key, known in self._uploads.items() if not known.busy]:
                del self._uploads[key]
            self._violations.clear()

    def __len__(self) -> int:
        return len(self._records)

    # -- asked by tests

    def attempts(self, **wanted: object) -> list[Record]:
        """The records in which all given fields are as given, oldest first.

        Redirects, which are a client's requests a second time, are left out unless `op` or `where` asks for them.
        """
        for key in wanted:
            if key not in FIELDS:
                raise ValueError(f"a record has no {key!r}; it has {', '.join(FIELDS)}")
        with self._lock:
            records = list(self._records)
        if "op" not in wanted and "where" not in wanted:
            records = [record for record in records if record.op != "redirect"]
        return [record for record in records if all(getattr(record, key) == wanted[key] for key in wanted)]

    def to_json_lines(self, **wanted: object) -> str:
        records = self.attempts(**wanted)
        return "".join(json.dumps(record.as_json(), ensure_ascii=False) + "\n" for record in records)

    @staticmethod
    def most_alive(records: Iterable[Record]) -> int:
        """How many of these were alive at one time, at most."""
        records = list(records)
        edges = [(each.started, 1) for each in records]
        edges += [(each.ended, -1) for each in records if each.ended is not None]
        return max(itertools.accumulate((step for _, step in sorted(edges)), initial=0))

    def violations(self) -> list[str]:
        """What a client must never do to AIStore v5.0 and has done, and what was lost by it; one sentence each."""
        with self._lock:
            return list(self._violations)

    def wait_until_quiet(self, seconds: float = 5.0) -> bool:
        """Wait until no handler is at work; False if some still are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._living, seconds)

    @property
    def alive(self) -> list[Record]:
        with self._lock:
            return [record for record in self._records if record.alive]

    # -- told by nodes

    def begin(self, node: str, where: str, connection: int, operation: Operation, announced: int) -> Record:
        redirects = where == "proxy" and operation.op in OBJECT_OPS
        op = "redirect" if redirects else operation.op
        with self._lock:
            self._count += 1
            record = Record(
                self._count,
                node,
                where,
                connection,
                op,
                operation.bucket,
                operation.name,
                operation.part,
                operation.upload_id,
                announced,
                time.monotonic(),
            )
            self._records.append(record)
            self._living += 1
            if op == "part":
                self._begin_part(record)
        return record

    def begin_complete(self, record: Record, *, probe: bool) -> None:
        """A complete's body is read. One with an empty list changes nothing."""
        if probe:
            record.op = "probe"
            return
        with self._lock:
            upload = self._upload(record.upload_id)
            self._blame_living("complete", record, upload)
            if upload.completing:
                self._violate(f"two completes of upload {record.upload_id} ({record.name}) were in flight at once")
            if upload.completed:
                self._violate(f"complete of upload {record.upload_id} ({record.name}) was sent again after it was done")
            upload.completing.append(record)

    def begin_abort(self, record: Record) -> None:
        with self._lock:
            self._blame_living("abort", record, self._upload(record.upload_id))

    def end(self, record: Record, outcome: str, *, status: int | None, received: int) -> None:
        """The handler has done what it will do."""
        with self._lock:
            record.received, record.status = received, status
            record.outcome = outcome
            record.ended = time.monotonic()
            self._living -= 1
            upload = self._uploads.get(record.upload_id) if record.where == "target" else None
            if upload is not None:
                self._end_of(upload, record)
            if not self._living:
                self._changed.notify_all()

    # -- under the lock

    def _begin_part(self, record: Record) -> None:
        upload = self._upload(record.upload_id)
        if any(other.part == record.part for other in upload.living):
            self._violate(f"{_part(record)} was sent again while an attempt of it was alive")
        upload.living.append(record)

    def _end_of(self, upload: _Upload, record: Record) -> None:
        if record in upload.completing:
            upload.completing.remove(record)
            upload.completed = upload.completed or record.outcome == "stored"
        if record not in upload.living:
            return
        upload.living.remove(record)
        if record.outcome == "unlinked-late":
            self._violate(f"{_part(record)} was destroyed when a late attempt of it (record {record.n}) ended")
        if record.outcome == "lost":
            self._violate(f"{_part(record)} was recorded without its file, which another attempt has removed")
        if record.outcome not in ("stored", "lost", "unlinked-by-repeat") or record.part is None:
            return
        if record.part in upload.stored:
            first = upload.stored[record.part]
            self._violate(f"{_part(record)} was stored twice (records {first} and {record.n})")
        upload.stored.setdefault(record.part, record.n)

    def _blame_living(self, what: str, record: Record, upload: _Upload) -> None:
        for other in upload.living:
            self._violate(f"{what} of upload {record.upload_id} was sent while {_part(other)} had an attempt alive")

    def _upload(self, id_: str) -> _Upload:
        upload = self._uploads.get(id_)
        if upload is None:
            upload = self._uploads[id_] = _Upload()
            if len(self._uploads) > _UPLOADS_LIMIT:
                oldest = next((key for key, known in self._uploads.items() if not known.busy and key != id_), id_)
                if oldest != id_:
                    del self._uploads[oldest]
        return upload

    def _violate(self, sentence: str) -> None:
        self._violations.append(sentence)


def _part(record: Record) -> str:
    return f"part {record.part} of upload {record.upload_id} ({record.name})"
