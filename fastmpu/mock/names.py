"""Names of buckets and objects: which are refused, and how objects' names meet on a disk (protocol 1.1, 1.6)."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from fastmpu.mock.answers import Refusal, quoted
from fastmpu.mock.heads import Query

__all__ = ["Bck", "bck_of", "check_bucket_name", "check_object_name", "has_long_segment", "name_on_disk"]

_PROVIDERS = {"ais": "ais", "aws": "aws", "s3": "aws", "gcp": "gcp", "gs": "gcp", "azure": "azure", "az": "azure"}
_PROVIDERS |= {"oci": "oci", "oc": "oci"}
_SCHEMES = {"aws": "s3", "gcp": "gs", "azure": "az", "oci": "oc"}  # how messages call them; "ais" is "ais"
_BUCKET_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_BUCKET_NAME_LIMIT = 64
_FILE_NAME_LIMIT = 255  # bytes of one path segment


class Bck(NamedTuple):
    """A bucket's full identity."""

    name: str
    provider: str = "ais"
    uuid: str = ""  # of a remote cluster
    namespace: str = ""

    @property
    def scope(self) -> str:
        """The namespace as it stands in paths and messages; "" for the global one."""
        return (f"@{self.uuid}" if self.uuid else "") + (f"#{self.namespace}" if self.namespace else "")

    def __str__(self) -> str:
        scheme = _SCHEMES.get(self.provider, self.provider)
        return f"{scheme}://{self.scope}/{self.name}" if self.scope else f"{scheme}://{self.name}"

    def uname(self, object_name: str) -> str:
        """The name whose digest decides the owner (protocol 6)."""
        return f"{self.provider}/@{self.uuid}#{self.namespace}/{self.name}/{object_name}"

    @property
    def directory(self) -> str:
        """Where the bucket's files lie under a mountpath."""
        return f"@{self.provider}/{self.scope}/{self.name}" if self.scope else f"@{self.provider}/{self.name}"


def bck_of(name: str, query: Query) -> Bck:
    """The bucket that a URL names. Refuses what cannot exist here: unknown and absent providers, remote clusters."""
    given = query.value("provider")
    provider = _PROVIDERS.get(given, "") if given else "ais"
    if not provider:
        raise Refusal(
            400,
            f"invalid backend provider {quoted(given)}: "
            "must be one of [ais, aws (s3://), gcp (gs://), azure (az://), oci (oc://)]",
            "ErrInvalidBackendProvider",
        )
    uuid, hash_sign, namespace = query.value("namespace").partition("#")
    return Bck(name, provider, uuid.removeprefix("@"), namespace if hash_sign else "")


def check_bucket_name(name: str) -> None:
    if not _BUCKET_NAME.fullmatch(name) or ".." in name:
        raise Refusal(
            400,
            "bucket name is invalid: may only contain letters, numbers, dashes (-), underscores (_), and dots (.)",
        )
    if len(name) > _BUCKET_NAME_LIMIT:
        raise Refusal(400, f"bucket name is too long: {len(name)} > {_BUCKET_NAME_LIMIT}(max length)")


def check_object_name(name: str, *, to_read: bool = False) -> None:
    """Trailing slash, dot segments and a home directory are refused, a slash not for HEAD; all else round-trips."""
    if (name.endswith("/") and not to_read) or name.startswith("~/") or not {".", ".."}.isdisjoint(name.split("/")):
        raise Refusal(400, f"invalid object name {quoted(name)}", "errInvalidPath")


def name_on_disk(name: str) -> str:
    """The name as a path below the bucket's directory: empty segments vanish, overlong names are hashed."""
    if has_long_segment(name):
        return ".x" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return "/".join(filter(None, name.split("/")))


def has_long_segment(name: str) -> bool:
    """Whether a segment is longer than a file's name can be."""
    if len(name.encode("utf-8", "surrogateescape")) <= _FILE_NAME_LIMIT:
        return False
    return any(len(segment.encode("utf-8", "surrogateescape")) > _FILE_NAME_LIMIT for segment in name.split("/"))
