"""What a request is about, told from its head: the word that faults and the truth log use for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from fastmpu.mock.heads import Request

__all__ = ["OPS", "Operation", "operation_of"]

OBJECT_OPS = ("create", "part", "put", "complete", "probe", "abort", "get", "head", "delete", "patch")
OPS = (*OBJECT_OPS, "redirect", "map", "list", "bucket", "health", "other")
"""`probe` is a complete with an empty list: it asks, and changes nothing. `redirect` is any object's, at the proxy."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_BY_METHOD = {"GET": "get", "HEAD": "head", "PATCH": "patch"}
_BY_RESOURCE = {"daemon": "map", "health": "health"}


class Operation(NamedTuple):
    """`op` is what the client wants, also where the proxy only redirects it."""

    op: str
    bucket: str = ""
    name: str = ""
    part: int | None = None
    upload_id: str = ""


def operation_of(request: Request) -> Operation:
    """Create and complete look alike but for the upload id; a probe is told from a complete by its body alone."""
    resource, _, rest = request.path.removeprefix("/v1/").partition("/")
    if resource == "buckets":
        return Operation("list" if request.method == "GET" else "bucket", rest.strip("/"))
    if resource != "objects":
        return Operation(_BY_RESOURCE.get(resource, "other"))
    bucket, _, name = rest.partition("/")
    upload_id = request.query.value("uploadId")
    if request.method == "POST":
        return Operation("complete" if upload_id else "create", bucket, name, None, upload_id)
    if request.method == "DELETE":
        return Operation("abort" if upload_id else "delete", bucket, name, None, upload_id)
    if request.method == "PUT" and upload_id:
        number = request.query.raw_value("partNumber")
        return Operation("part", bucket, name, int(number) if _NUMBER.fullmatch(number) else None, upload_id)
    return Operation("put" if request.method == "PUT" else _BY_METHOD.get(request.method, "other"), bucket, name)
