"""Uploads that did not come to their end: listed, resumed and cleared away, by what the journal knows of them."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..ais import Client, Secret
from ..ais.credentials import TokenSource, held
from ..errors import ResumeError, UploadInProgressError, UsageError
from .cancel import CancelEvent
from .job_log import open_journal
from .journal import Entry, journal_path
from .object_lock import ObjectLock
from .progress import OnProgress
from .receipt import Receipt
from .stale import abort_entry, seems_over
from .uploader import upload

STATES = ("open", "completing", "abort-pending")


@dataclass(frozen=True)
class UnfinishedUpload:
    """`state`: "open", "completing", or "abort-pending" for one that is only to be cleared away. `source`: a path; ""
    for a buffer, which cannot be resumed. `acknowledged` parts of `parts`. Times in seconds of the wall clock."""

    upload_id: str
    uri: str
    source: str
    size: int
    part_size: int
    parts: int
    acknowledged: int
    state: str
    created: float
    updated: float
    endpoint: str
    cluster: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def unfinished_uploads(*, journal: str = "auto") -> list[UnfinishedUpload]:
    """What this user's jobs left unfinished, the oldest first; also what is being uploaded now. Asks no cluster."""
    return [_shown(entry) for _, entry in _entries(_path(journal))]


def resume(
    upload_id: str,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
    journal: str = "auto",
    progress: OnProgress | None = None,
    cancel: CancelEvent | None = None,
    **options: Any,
) -> Receipt:
    """Go on with an upload whose process ended before it was done: same file, same object, same parts.

    The endpoint is, where none is given, the one that the upload began with. `options` are those of `upload`, but for
    what decides the parts and their checksums. ResumeError, with what to do instead, for an unknown id, a buffer, a
    file that is not the same any more, and another cluster.
    """
    secret = held(token)
    del token
    entry = _find(upload_id, journal)
    fixed = {"part_size", "multipart_threshold", "checksum", "resume"} & set(options)
    if fixed:
        raise UsageError(f"{fixed.pop()} cannot be chosen for a resume: it goes on as it began")
    if not entry.source:
        raise ResumeError(
            f"upload {upload_id} of {entry.uri} was of a buffer, which ended with its process: upload it anew, and "
            f"clear this one away: fastmpu uploads abort {upload_id}",
            upload_id=upload_id,
        )
    if not os.path.exists(entry.path):
        raise ResumeError(
            f"{entry.path!r}, of which upload {upload_id} was, is not there: put it back, or upload it from where it "
            f"is now: fastmpu cp NEW-PATH {entry.uri}",
            upload_id=upload_id,
        )
    with ExitStack() as stack:
        client = _client(entry, client, endpoint, secret, stack)
        return upload(
            entry.path,
            entry.uri,
            client=client,
            progress=progress,
            cancel=cancel,
            part_size=entry.part_size,
            journal=journal,
            resume="require",
            **{**_settings(entry), **options},
        )


def abort_upload(
    upload_id: str,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
    journal: str = "auto",
) -> bool:
    """Clear an unfinished upload away, its parts on the cluster too. False: the cluster did not know it any more.

    UploadInProgressError while a job is at it: stop that first.
    """
    secret = held(token)
    del token
    entry = _find(upload_id, journal)
    path = _path(journal)
    lock = ObjectLock(path.parent / "locks", entry.cluster, entry.uri)
    try:
        with ExitStack() as stack:
            client = _client(entry, client, endpoint, secret, stack)
            if not seems_over(entry, client):
                raise UploadInProgressError(
                    f"requests of upload {upload_id} may still be under way: try again in some minutes",
                    upload_id=upload_id,
                )
            known = abort_entry(entry, client)
            store = open_journal(path)
            stack.callback(store.close)
            store.end_upload(upload_id, "aborted")
            if lock.vouches_for == upload_id:
                lock.retract()
            return known
    finally:
        lock.release()


def _path(journal: str) -> Path:
    if journal == "off":
        raise UsageError("journal='off': what was noted nowhere cannot be found; use 'auto', or a path")
    return journal_path(journal)


def _entries(path: Path) -> list[tuple[int, Entry]]:
    if not path.exists():
        return []
    store = open_journal(path)
    try:
        return [(row, entry) for row, entry in store.entries() if entry.state in STATES]
    finally:
        store.close()


def _find(upload_id: str, journal: str) -> Entry:
    path = _path(journal)
    for _, entry in _entries(path):
        if entry.upload_id == upload_id:
            return entry
    raise ResumeError(
        f"journal {path} knows no unfinished upload {upload_id!r}: fastmpu uploads ls shows those it knows",
        upload_id=upload_id,
    )


def _client(
    entry: Entry, client: Client | None, endpoint: str | None, token: Secret | TokenSource | None, stack: ExitStack
) -> Client:
    if client is None:
        url = endpoint or os.environ.get("AIS_ENDPOINT") or entry.endpoint
        client = stack.enter_context(Client(url, token=token))
    known = client.endpoint.cluster_map().uuid
    if known != entry.cluster:
        raise ResumeError(
            f"upload {entry.upload_id} is at cluster {entry.cluster}, once at {entry.endpoint}; "
            f"{client.endpoint.origin} is cluster {known}: fastmpu resume {entry.upload_id} --endpoint URL",
            upload_id=entry.upload_id,
        )
    return client


def _settings(entry: Entry) -> dict[str, Any]:
    settings = json.loads(entry.settings)
    return {"checksum": str(settings["checksum"])}


def _shown(entry: Entry) -> UnfinishedUpload:
    return UnfinishedUpload(
        upload_id=entry.upload_id,
        uri=entry.uri,
        source=entry.path,
        size=entry.size,
        part_size=entry.part_size,
        parts=-(-entry.size // entry.part_size),
        acknowledged=entry.acknowledged,
        state=entry.state,
        created=entry.created,
        updated=entry.updated,
        endpoint=entry.endpoint,
        cluster=entry.cluster,
    )


def older_than(uploads: list[UnfinishedUpload], seconds: float) -> list[UnfinishedUpload]:
    """Those of which nothing was noted for so long."""
    return [each for each in uploads if time.time() - each.updated >= seconds]
