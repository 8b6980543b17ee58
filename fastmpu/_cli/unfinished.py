"""`fastmpu resume` and `fastmpu uploads`: what was left unfinished, by the journal, or on request by the cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from .._sizes import format_size
from .._upload.foreign import ClusterUpload, abort_cluster_upload, cluster_uploads
from .._upload.uploads import UnfinishedUpload, abort_upload, older_than, resume, unfinished_uploads
from ..errors import FastMPUError, UploadInProgressError, UsageError
from .render import Progress, bar_of, complain, say, show_json, show_receipt, show_table
from .status import Status, status_of
from .token import Token

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def resume_uploads(
    upload_id: str | None, endpoint: str | None, token: Token, journal: str, *, as_json: bool, progress: Progress
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
                receipt = resume(each, endpoint=endpoint, token=token, journal=journal, progress=on_progress)
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


def list_cluster(bucket: str, endpoint: str | None, token: Token, journal: str, *, as_json: bool) -> Status:
    """The same, of what the cluster lists in a bucket."""
    found = cluster_uploads(bucket, endpoint=endpoint, token=token, journal=journal)
    if as_json:
        for each in found:
            show_json(each.to_json())
        return Status.done
    rows = [
        [each.upload_id, _plain(each.uri), _age(time.time() - each.created), "yes" if each.known else "no"]
        for each in found
    ]
    columns = ["upload id", "object", "begun", "in this journal"]
    caption = f"another job may be at one that is not in this journal: fastmpu uploads abort ID --cluster {bucket}"
    show_table(f"unfinished uploads of {bucket}", columns, rows, caption)
    return Status.done


def abort(upload_id: str, endpoint: str | None, token: Token, journal: str, cluster: str | None = None) -> Status:
    """What the journal knows is aborted with its care; `cluster` names the bucket of one that it does not know."""
    if cluster is None or any(each.upload_id == upload_id for each in unfinished_uploads(journal=journal)):
        known = abort_upload(upload_id, endpoint=endpoint, token=token, journal=journal)
    else:
        known = abort_cluster_upload(upload_id, cluster, endpoint=endpoint, token=token)
    say(f"upload {upload_id} was aborted" if known else f"the cluster did not know upload {upload_id} any more")
    return Status.done


def collect(older: str, endpoint: str | None, token: Token, journal: str, *, yes: bool) -> Status:
    """Abort what nothing was noted of for so long. Without `yes` it only says what it would do."""
    found = older_than(unfinished_uploads(journal=journal), _seconds(older))
    told = {each.upload_id: f"{each.uri} ({each.acknowledged} of {each.parts} parts)" for each in found}
    return _collect(told, older, lambda upload_id: abort(upload_id, endpoint, token, journal), yes=yes)


def collect_cluster(bucket: str, older: str, endpoint: str | None, token: Token, journal: str, *, yes: bool) -> Status:
    """The same, of what the cluster lists in a bucket and the journal does not know, by the time it was begun."""

    def wanted(each: ClusterUpload) -> bool:
        return not each.known and time.time() - each.created >= seconds

    seconds = _seconds(older)
    found = filter(wanted, cluster_uploads(bucket, endpoint=endpoint, token=token, journal=journal))
    told = {each.upload_id: f"{_plain(each.uri)}, begun {_age(time.time() - each.created)}" for each in found}
    return _collect(told, older, lambda upload_id: abort(upload_id, endpoint, token, journal, bucket), yes=yes)


def _collect(told: dict[str, str], older: str, end: Callable[[str], object], *, yes: bool) -> Status:
    """`told`: upload id -> what is to be said of it."""
    if not told:
        say(f"no unfinished upload is older than {older}")
    failed: list[Status] = []
    for upload_id, about in told.items():
        if not yes:
            say(f"would abort {upload_id} of {about}")
            continue
        try:
            end(upload_id)
        except UploadInProgressError as error:
            say(f"left alone: {error}")
        except FastMPUError as error:
            complain(error, upload_id)
            failed.append(status_of(error))
    if told and not yes:
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


def _plain(text: str) -> str:
    """A name that comes from the cluster, without what a terminal would act on."""
    return "".join(each if each.isprintable() else "?" for each in text)


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
