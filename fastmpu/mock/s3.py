"""The S3 dialect, of which the mock has one request: the list of a bucket's unfinished uploads (protocol 7).

`GET /s3/<bucket>?uploads`, answered by the proxy for all targets, native uploads included. A page begins after the
upload that `upload-id-marker` names, and has `max-uploads` entries; without that, all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from xml.sax.saxutils import escape

from fastmpu.mock.answers import Answer, Refusal
from fastmpu.mock.heads import Query
from fastmpu.mock.listing import Shelf
from fastmpu.mock.names import Bck
from fastmpu.mock.server import Exchange
from fastmpu.mock.uploads import Upload

__all__ = ["ROOT", "answer_s3"]

ROOT = "/s3/"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CODES = {403: "AccessDenied", 404: "NoSuchBucket", 405: "MethodNotAllowed", 501: "NotImplemented"}


def answer_s3(exchange: Exchange, find: Callable[[Bck], object], shelves: list[Shelf]) -> Answer:
    """`find` refuses a bucket that does not exist, or that the client may not list. Errors come as XML, too."""
    request = exchange.request
    bucket, _, name = request.path.removeprefix(ROOT).partition("/")
    try:
        if request.method != "GET" or name or "uploads" not in request.query:
            raise Refusal(501, "of the S3 dialect the mock has the list of uploads only")
        bck = Bck(bucket)
        find(bck)
        return _xml(200, _page([each for shelf in shelves for each in shelf.uploads.all(bck)], bucket, request.query))
    except Refusal as refusal:
        code = _CODES.get(refusal.status, "InvalidRequest")
        tags = _tag("Code", code) + _tag("Message", refusal.message) + _tag("Resource", "") + _tag("RequestId", "")
        return _xml(refusal.status, f"<Error>{tags}</Error>")


def _page(uploads: list[Upload], bucket: str, query: Query) -> str:
    uploads.sort(key=lambda each: (each.name, each.created))
    marker, asked = query.value("upload-id-marker"), query.value("max-uploads")
    if asked and not asked.isdecimal():
        raise Refusal(400, f'invalid max-uploads "{asked}"')
    first = next((at + 1 for at, each in enumerate(uploads) if each.id == marker), 0)
    most = int(asked or 0) or len(uploads)
    page = uploads[first : first + most]
    truncated = str(first + most < len(uploads)).lower()
    tags = [_tag("Bucket", bucket), _tag("UploadIdMarker", marker), *map(_entry, page)]
    tags += [_tag("MaxUploads", asked or "0"), _tag("IsTruncated", truncated)]
    return f"<ListMultipartUploadsResult>{''.join(tags)}</ListMultipartUploadsResult>"


def _entry(upload: Upload) -> str:
    began = datetime.fromtimestamp(upload.created, timezone.utc).isoformat(timespec="microseconds")
    tags = _tag("Initiated", began.replace("+00:00", "Z")) + _tag("Key", upload.name) + _tag("UploadId", upload.id)
    return f"<Upload>{tags}</Upload>"


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _xml(status: int, text: str) -> Answer:
    # A name that is no UTF-8 has no form in XML.
    return Answer(status, [("Content-Type", "application/xml")], (_HEAD + text).encode("utf-8", "replace"))
