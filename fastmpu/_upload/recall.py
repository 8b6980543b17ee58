"""What the journal recalls of an earlier job for the same object, and whether this job may go on with it.

Only if it is the same file (by all of fstat), cut in the same way, and its first and last acknowledged part still have
the checksums that were noted. What the cluster has is asked afterwards (parts_run.py).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .._plan import PartRange, Plan
from .._source import Source
from ..errors import ResumeError
from .hash_range import hash_range
from .job_log import JobLog
from .journal import DamagedError, Entry, Journal, numbers_of
from .receipt import PartReceipt

logger = logging.getLogger("fastmpu")

TOO_OLD: Final = 24 * 3600.0  # seconds; the cluster's own cleanup is due long before


@dataclass(frozen=True)
class Recall:
    """An upload to go on with. `acknowledged`: number -> checksums; `begun`: parts of which nobody knows; `noted`:
    both, as the journal is to have them."""

    row: int
    entry: Entry
    acknowledged: dict[int, dict[str, str]]
    begun: tuple[int, ...]
    noted: dict[int, str]

    @property
    def age(self) -> float:
        """Seconds since it was created, by the wall clock; below 0 if that was set back."""
        return time.time() - self.entry.created


class NotRecalled(Exception):
    """Nothing to go on with; the message is the reason. Never leaves `_upload`."""


def recall(log: JobLog, source: Source, plan: Plan) -> Recall:
    """The newest unfinished upload of this object. NotRecalled says why there is none; those that cannot go on are
    noted as to be aborted."""
    about = log.about
    if about is None:
        raise NotRecalled("there is no journal")
    found: list[tuple[int, Entry, dict[int, str]]] = []

    def look(journal: Journal) -> None:
        for row, entry in journal.unfinished(about.cluster, about.uri):
            if found:
                log.mark(entry.upload_id, "abort-pending")
            else:
                try:
                    found.append((row, entry, journal.parts(row, entry)))
                except DamagedError:
                    log.mark(entry.upload_id, "abort-pending")
                    raise

    try:
        log.read(look)
    except DamagedError as error:
        raise NotRecalled(f"the journal is damaged: {error}") from None
    if not found:
        raise NotRecalled(f"the journal knows no unfinished upload of {about.uri}")
    row, entry, noted = found[0]
    reason = _difference(entry, about) or _other_bytes(noted, source, plan)
    if log.vouched_for != entry.upload_id:
        reason = "nobody vouches for its notes: the journal could not be written any more, or another upload came after"
    if reason:
        log.mark(entry.upload_id, "abort-pending")
        raise NotRecalled(f"upload {entry.upload_id}: {reason}")
    if not entry.boot or entry.boot != about.boot:
        # The machine may have crashed and taken the last notes along: whatever is not acknowledged may be stored.
        noted = dict.fromkeys((part.number for part in plan.parts), "") | noted
    acknowledged = {number: json.loads(noted[number]) for number in numbers_of(noted, acknowledged=True)}
    begun = tuple(numbers_of(noted, acknowledged=False))
    return Recall(row, entry, acknowledged, begun, noted)


def _difference(entry: Entry, about: Entry) -> str:
    if not entry.source:
        return "it was of a buffer, and no buffer outlives its process"
    if entry.source != about.source:
        return f"it was of {entry.path!r}"
    if entry.identity != about.identity:
        return f"{entry.path!r} is not the file that it was: size, times, inode or device differ"
    if (entry.size, entry.part_size) != (about.size, about.part_size):
        return f"it had parts of {entry.part_size} bytes, and now they are to have {about.part_size}"
    if entry.settings != about.settings:
        return f"it was begun with {entry.settings}, and now it is {about.settings}"
    if time.time() - entry.created > TOO_OLD:
        return "it is more than a day old"
    return ""


def _other_bytes(noted: dict[int, str], source: Source, plan: Plan) -> str:
    count = len(plan.parts)
    if not all(isinstance(number, int) and 1 <= number <= count for number in noted):
        return f"the journal has parts that a plan of {count} parts has not"
    acknowledged = list(numbers_of(noted, acknowledged=True))
    for number in {*acknowledged[:1], *acknowledged[-1:]}:
        for name, value in json.loads(noted[number]).items():
            if hash_range(source, plan.parts[number - 1], name)[name] != value:
                return f"part {number} of the source has another {name} than it had"
    return ""


def stored_before(
    source: Source, part: PartRange, kinds: Iterable[str], noted: dict[str, str] | None = None
) -> PartReceipt:
    """The receipt of a part that an earlier job sent; hashed here where that job has not `noted` its checksums."""
    checksums = noted or hash_range(source, part, *kinds)
    return PartReceipt(part.number, part.offset, part.length, checksums, attempts=0, seconds=0.0)


def refused(reason: str, uri: str) -> ResumeError:
    """For `resume="require"`."""
    return ResumeError(f"{uri} cannot be resumed: {reason}. Upload it anew: resume='auto'", object_name=uri)
