"""Multipart uploads at a target: from requests to the part store and back (protocol 5)."""

from __future__ import annotations

import hashlib
import re

from fastmpu.mock.answers import Answer, Refusal, quoted
from fastmpu.mock.body import Sink
from fastmpu.mock.buckets import Bucket
from fastmpu.mock.messages import Message, decode_failure, fields_of
from fastmpu.mock.names import Bck
from fastmpu.mock.server import Exchange
from fastmpu.mock.uploads import Attempt, Uploads

__all__ = ["abort", "complete", "create", "put_part"]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = range(-(1 << 63), 1 << 63)
_UNCHECKED = ("", "UNSIGNED-PAYLOAD")
# What Go's http.DetectContentType makes of text that begins so; an upload id may (protocol 10).
_SNIFFED = {"BM": "image/bmp", "OTTO": "font/otf", "ttcf": "font/collection", "wOFF": "font/woff", "wOF2": "font/woff2"}


def create(uploads: Uploads, bucket: Bucket, name: str) -> Answer:
    """A new upload; the name is not checked (protocol 1.6)."""
    id_ = uploads.create(bucket.bck, name, bucket.checksum_type, bucket.checkpoint_every)
    type_ = next((type_ for start, type_ in _SNIFFED.items() if id_.startswith(start)), "text/plain; charset=utf-8")
    return Answer(200, [("Content-Type", type_)], id_.encode())


def put_part(uploads: Uploads, bck: Bck, name: str, exchange: Exchange) -> Answer:
    """Receive one part. Its number is taken as it stands in the URL, escapes included."""
    request, body = exchange.request, exchange.body
    upload_id, raw_number = request.query.value("uploadId"), request.query.raw_value("partNumber")
    if not _INTEGER.fullmatch(raw_number) or int(raw_number[:21]) not in _INT64:
        asked = f"invalid part number {quoted(raw_number)} for uploadID {quoted(upload_id)}"
        raise Refusal(400, f"o[{bck.name}/{name}(-)]: {asked}")
    attempt = uploads.begin(bck, name, upload_id, int(raw_number), body.length)
    try:
        _receive(attempt, exchange, request.header("x-amz-content-sha256"))
    except (Refusal, OSError):
        if uploads.fail(attempt):
            exchange.record.outcome = "unlinked-late"
        raise
    finally:
        exchange.record.crc32c = attempt.crc.hexdigest()
    exchange.record.outcome = uploads.succeed(attempt)
    return Answer()


def complete(uploads: Uploads, bck: Bck, name: str, exchange: Exchange, message: Message, node: str) -> Answer:
    """Make the object; etags are not looked at."""
    numbers = _numbers_in(message, node)
    exchange.truth.begin_complete(exchange.record, probe=not numbers)
    uploads.complete(bck, name, exchange.request.query.value("uploadId"), numbers)
    exchange.record.outcome = "stored"
    return Answer()


def abort(uploads: Uploads, bck: Bck, name: str, exchange: Exchange) -> Answer:
    exchange.truth.begin_abort(exchange.record)
    uploads.abort(bck, name, exchange.request.query.value("uploadId"))
    return Answer()


def _receive(attempt: Attempt, exchange: Exchange, sha256: str) -> None:
    checked = sha256 not in _UNCHECKED
    hasher = hashlib.sha256()
    sinks: list[Sink] = [attempt.crc]
    if attempt.hashed:
        sinks.append(attempt.upload.hash)
    if checked:
        sinks.append(hasher)
    writer = attempt.writer()
    try:
        exchange.body.receive(writer, *sinks)
    finally:
        writer.close()
    if checked and hasher.hexdigest() != sha256:
        context = f"sha256({hasher.hexdigest()} != {sha256}) (context: part {attempt.number})"
        raise Refusal(400, f"BAD DATA CHECKSUM: {context}", "ErrBadCksum")


def _numbers_in(message: Message, node: str) -> list[int] | None:
    """None if there is no list, which is refused only after the upload was looked at."""
    if message.value is None:
        return None
    if not isinstance(message.value, list):
        raise decode_failure(node, message.value, "expected a list of parts")
    known = {"part-number": int, "etag": str}
    return [int(fields_of(item, known, node)["part-number"]) for item in message.value]
