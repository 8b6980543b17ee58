"""`fastmpu resume` and `fastmpu uploads`: what was left unfinished."""

from __future__ import annotations

import re
import time
from pathlib import Path

from .._sizes import format_size
from .._upload.uploads import UnfinishedUpload, abort_upload, older_than, resume, unfinished_uploads
from ..errors import FastMPUError, UploadInProgressError, UsageError
from .render import Progress, bar_of, complain, say, show_json, show_receipt, show_table
from .status import Status, status_of

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def resume_uploads(
    upload_id: str | None, endpoint: str | None, journal: str, *, as_json: bool, progress: Progress
) -> Status:
    """One by its id, or all that have a file; those that another process is at are left to it."""
    wanted = (
        [upload_id] if upload_id else [each.upload_id for each in unfinished_uploads(journal=journal) if _can(each)]
    )
    if not wanted:
        say("nothing to resume")
    failed: list[Status] = []
    for each in wanted:
        try:
            with bar_of(progress, each) as on_progress:
                receipt = resume(each, endpoint=endpoint, journal=journal, progress=on_progress)
        except UploadInProgressError as error:
            if upload_id:
                raise
            say(f"left alone: {error}")
        except FastMPUError as error:
            complain(error, each)
            failed.append(status_of(error))
        else:
            show_receipt(receipt, as_json=as_json)
    if not failed:
        return Status.done
    return failed[0] if len(wanted) == 1 else Status.failed


def list_uploads(journal: str, *, as_json: bool) -> Status:
    """A table, or one JSON object a line."""
    found = unfinished_uploads(journal=journal)
    if as_json:
        for each in found:
            show_json(each.to_json())
        return Status.done
    rows = [
        [
            each.upload_id,
            each.uri,
            each.source or "(a buffer)",
            format_size(each.size),
            f"{each.acknowledged} of {each.parts} parts",
            each.state,
            _age(time.time() - each.updated),
        ]
        for each in found
    ]
    columns = ["upload id", "object", "source", "size", "acknowledged", "state", "last note"]
    show_table("unfinished uploads", columns, rows, "go on: fastmpu resume ID; clear away: fastmpu uploads abort ID")
    return Status.done


def abort(upload_id: str, endpoint: str | None, journal: str) -> Status:
    known = abort_upload(upload_id, endpoint=endpoint, journal=journal)
    say(f"upload {upload_id} was aborted" if known else f"the cluster did not know upload {upload_id} any more")
    return Status.done


def collect(older: str, endpoint: str | None, journal: str, *, yes: bool) -> Status:
    """Abort what nothing was noted of for so long. Without `yes` it only says what it would do."""
    found = older_than(unfinished_uploads(journal=journal), _seconds(older))
    if not found:
        say(f"no unfinished upload is older than {older}")
    failed: list[Status] = []
    for each in found:
        if not yes:
            say(f"would abort {each.upload_id} of {each.uri} ({each.acknowledged} of {each.parts} parts)")
            continue
        try:
            abort(each.upload_id, endpoint, journal)
        except UploadInProgressError as error:
            say(f"left alone: {error}")
        except FastMPUError as error:
            complain(error, each.upload_id)
            failed.append(status_of(error))
    if found and not yes:
        say("nothing was done: add --yes to do it")
    return Status.failed if failed else Status.done


def hint(error: FastMPUError, journal: str) -> Status | None:
    """For an upload that failed and can go on: how, on stderr."""
    upload_id = getattr(error, "upload_id", None)
    if journal == "off" or not upload_id:
        return None
    for each in unfinished_uploads(journal=journal):
        if each.upload_id == upload_id and _can(each):
            say(f"it can go on: fastmpu resume {upload_id}" + _option(journal))
            return Status.resumable
    return None


def _option(journal: str) -> str:
    return "" if journal in ("auto", "required") else f" --journal {Path(journal)}"


def _can(each: UnfinishedUpload) -> bool:
    return each.state != "abort-pending" and bool(each.source)


def _seconds(text: str) -> float:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--older-than {text!r}: a number with a unit, as in 30m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def _age(seconds: float) -> str:
    for unit in "dhm":
        if seconds >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
