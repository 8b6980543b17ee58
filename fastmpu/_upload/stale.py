"""Uploads that are to be aborted and could not be, when their job was there: tried again by later ones."""

from __future__ import annotations

import logging
from typing import Final

from ..ais import Client, parse_uri
from ..errors import FastMPUError
from .job_log import JobLog
from .journal import Entry
from .process_end import is_over

logger = logging.getLogger("fastmpu")

RETRIED_ABORTS: Final = 8  # at the end of a job; the rest waits for the next one, or for `fastmpu uploads gc`


def pending_aborts(log: JobLog) -> list[Entry]:
    """What earlier jobs could not abort at this job's cluster. Asked before the job leaves some of its own."""
    about = log.about
    pending: list[Entry] = []
    if about is not None:
        log.read(
            lambda journal: pending.extend(
                entry for _, entry in journal.entries("state = 'abort-pending' AND cluster = ?", about.cluster)
            )
        )
    return pending[:RETRIED_ABORTS]


def retry_aborts(pending: list[Entry], log: JobLog, client: Client) -> None:
    """One try each. What fails again stays noted."""
    for entry in pending:
        try:
            if seems_over(entry, client):
                abort_entry(entry, client)
                log.mark(entry.upload_id, "aborted")
        except FastMPUError as error:
            logger.info("upload %s of %s could not be aborted now, either: %s", entry.upload_id, entry.uri, error)


def abort_entry(entry: Entry, client: Client) -> bool:
    place = parse_uri(entry.uri)
    obj = client.bucket(place.bucket, place.provider, place.namespace).object(place.name)
    return obj.multipart_upload().take_over(entry.upload_id).abort() is not None


def seems_over(entry: Entry, client: Client) -> bool:
    return is_over(entry.boot, entry.updated, client.endpoint.cluster_map().ports)
