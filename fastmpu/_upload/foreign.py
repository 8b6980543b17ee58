"""Unfinished uploads that only the cluster knows of: another user's, another machine's, or ones whose notes are lost.

Nothing tells whether a job is still at one of them. So nothing here happens by itself: whoever asks names the bucket.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from ..ais import Bucket, Client, Secret, parse_uri
from ..ais.credentials import TokenSource, held
from ..errors import ResumeError, UsageError
from .uploads import unfinished_uploads


@dataclass(frozen=True)
class ClusterUpload:
    """`created`: seconds of the cluster's clock. `known`: this user's journal has it, and knows more of it."""

    upload_id: str
    uri: str
    created: float
    known: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def cluster_uploads(
    bucket: str,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
    journal: str = "auto",
) -> list[ClusterUpload]:
    """What the cluster itself lists as unfinished in "ais://bucket": everybody's uploads, also those under way, by
    name. The cluster is never asked for their parts, as that may lock an upload for good (protocol H9)."""
    secret = held(token)
    del token
    with ExitStack() as stack:
        place = _bucket(bucket, client, endpoint, secret, stack)
        cluster = place.client.endpoint.cluster_map().uuid
        noted = [] if journal == "off" else unfinished_uploads(journal=journal)
        known = {each.upload_id for each in noted if each.cluster == cluster}
        return [
            ClusterUpload(each.upload_id, f"{place.uri}/{each.name}", each.created, each.upload_id in known)
            for each in place.list_uploads()
        ]


def abort_cluster_upload(
    upload_id: str,
    bucket: str,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
) -> bool:
    """Delete the parts of an upload that the cluster lists in "ais://bucket", whoever began it: a job that is still at
    it fails. False: it was over meanwhile. ResumeError if it is not listed.

    For one that this user's journal knows there is `abort_upload`, which looks whether a job is at it.
    """
    secret = held(token)
    del token
    with ExitStack() as stack:
        place = _bucket(bucket, client, endpoint, secret, stack)
        for each in place.list_uploads():
            if each.upload_id == upload_id:
                mpu = place.object(each.name).multipart_upload()
                return mpu.take_over(upload_id).abort() is not None
        raise ResumeError(
            f"{place.uri} has no unfinished upload {upload_id!r}: fastmpu uploads ls --cluster {place.uri} shows those "
            "it has",
            upload_id=upload_id,
        )


def _bucket(
    uri: str, client: Client | None, endpoint: str | None, token: Secret | TokenSource | None, stack: ExitStack
) -> Bucket:
    place = parse_uri(uri)
    if place.name:
        raise UsageError(f"{uri!r} names an object: write a bucket, as in ais://bucket")
    if client is None:
        client = stack.enter_context(Client(endpoint, token=token))
    return client.bucket(place.bucket, place.provider, place.namespace)
