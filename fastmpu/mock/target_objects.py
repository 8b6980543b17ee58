"""Whole objects at a target: PUT, GET, HEAD, DELETE, custom metadata (protocol 4.1 to 4.4)."""

from __future__ import annotations

from email.utils import formatdate

from fastmpu.mock.answers import Answer, Dropped, Headers, Refusal, quoted
from fastmpu.mock.blobs import NO_ROOM, Blob, Blobs, Writer, out_of_space
from fastmpu.mock.body import Body
from fastmpu.mock.buckets import Bucket
from fastmpu.mock.checksums import TYPES, Checksum, Crc32c, Hasher, new_hasher
from fastmpu.mock.heads import Request
from fastmpu.mock.messages import Message, fields_of
from fastmpu.mock.names import Bck, has_long_segment, name_on_disk
from fastmpu.mock.ranges import parse_range
from fastmpu.mock.server import Exchange
from fastmpu.mock.store import Object, Segments, Store

__all__ = ["delete", "get", "head", "put", "set_custom"]

_CRC_LIMIT = 1 << 20  # objects up to this size have their CRC-32C in the truth log; of larger ones it would cost


def put(store: Store, bucket: Bucket, name: str, exchange: Exchange) -> Answer:
    """Store a whole object; readers see the former one until all of the new one is there."""
    bck, request = bucket.bck, exchange.request
    sent = _sent_checksum(request, bucket)
    old = store.find(bck, name)
    if sent is not None and old is not None and old.checksum == sent and not old.ghost:
        exchange.body.discard()
        return Answer()  # the same again: nothing is stored, and what came is not looked at
    hashers = {type_: new_hasher(type_) for type_ in {bucket.checksum_type, sent.type if sent else "none"} - {"none"}}
    crc = hashers.setdefault("crc32c", Crc32c()) if 0 <= exchange.body.length <= _CRC_LIMIT else None
    try:
        blob = _receive(store.blobs, exchange.body, list(hashers.values()))
    finally:
        exchange.record.crc32c = crc.hexdigest() if crc else None
    if sent is not None and (computed := hashers[sent.type].hexdigest()) != sent.value:
        blob.unlink()
        message = f"BAD DATA CHECKSUM: {sent.type}({sent.value} != {computed}) (context: {bck}/{name})"
        raise Refusal(500, message, "ErrBadCksum")
    own = bucket.checksum_type
    checksum = None if own == "none" else Checksum(own, hashers[own].hexdigest())
    new = Object(bck, name, blob.size, checksum, blob, custom=_custom_in(request))
    try:
        store.publish(new)
    except Refusal:
        blob.unlink()
        raise
    exchange.record.outcome = "stored"
    return Answer(200, _metadata(new, bucket))


def get(store: Store, bucket: Bucket, name: str, request: Request, node: str) -> Answer:
    """An object or one range of it. A hole in it shows when reading gets there (H1, H11)."""
    found = store.find(bucket.bck, name)
    if found is None:
        raise _missing(bucket.bck, name, node)
    if found.ghost:
        store.remove(bucket.bck, name)
        path = f"{store.mountpath(bucket.bck, name)}/{bucket.bck.directory}/%ut/{name}"
        message = f"failed to load completed chunk-manifest[{bucket.bck}/{name}, id=]: open {path}"
        raise Refusal(404, f"{message}: no such file or directory", "wrapError")
    headers = [*_metadata(found, bucket), ("Content-Type", "application/octet-stream")]
    asked = request.header("range")
    chosen = parse_range(asked, found.size, f"{bucket.bck}/{name}") if asked else None
    if chosen is None:
        return Answer(200, headers, content=store.read(found, 0, found.size))
    offset, length = chosen
    extent = [("Accept-Ranges", "bytes"), ("Content-Range", f"bytes {offset}-{offset + length - 1}/{found.size}")]
    stretch = store.read(found, offset, length)
    _refuse_to_start_in_a_hole(stretch, found, offset, extent)
    return Answer(206, headers + extent, content=stretch)


def head(store: Store, bucket: Bucket, name: str, request: Request, node: str) -> Answer:
    """An object's metadata: all of the old kind, or what `props` asks for."""
    found = store.find(bucket.bck, name)
    if found is None:
        raise _missing(bucket.bck, name, node)
    length = [("Content-Length", str(found.size))] if found.size else []
    present = ("Ais-Present", "true")
    location = ("Ais-Location", f"{node}:mp[{store.mountpath(bucket.bck, name)}]")
    copies = [("Ais-Mirror-Copies", "1"), ("Ais-Mirror-Paths", f"[{store.mountpath(bucket.bck, name)}]")]
    props = request.query.value("props")
    if not props:
        shown = name_on_disk(name) if has_long_segment(name) else name
        identity = [("Ais-Name", shown), ("Ais-Bucket-Name", bucket.bck.name), ("Ais-Bucket-Provider", "ais")]
        return Answer(200, [*identity, *_metadata(found, bucket), present, location, *copies, *length])
    said = dict(_metadata(found, bucket))
    offers: dict[str, Headers] = {
        "name": [],
        "size": [],
        "checksum": [item for item in said.items() if item[0].startswith("Ais-Checksum")],
        "atime": [("Ais-Atime", str(found.atime_ns))],
        "version": [item for item in said.items() if item[0] == "Ais-Version"],
        "custom": _custom_headers(found),
        "location": [location],
        "copies": copies,
        "ec": [],
        "chunked": _parts_headers(found),
        "last-modified": [("Last-Modified", formatdate(found.modified, usegmt=True))],
        "etag": [("Etag", _etag(found))],
    }
    headers = [present, *length]
    for prop in props.split(","):
        if prop.strip() not in offers:
            raise Refusal(400, f"invalid property {quoted(prop)} in props list", headers=[present])
        headers += offers[prop.strip()]
    return Answer(200, headers)


def delete(store: Store, bucket: Bucket, name: str) -> Answer:
    if not store.remove(bucket.bck, name):
        raise Refusal(404, f"{bucket.bck}/{name} doesn't exist")
    return Answer()


def set_custom(store: Store, bucket: Bucket, name: str, request: Request, message: Message, node: str) -> Answer:
    """Add to an object's custom metadata, or replace them."""
    found = store.find(bucket.bck, name)
    if found is None:
        raise _missing(bucket.bck, name, node)
    given = message.value or {}
    fields = fields_of(given, dict.fromkeys(given, str), node)
    found.custom = fields if request.query.value("set-new-custom") == "true" else found.custom | fields
    store.changed(found)
    return Answer()


def _receive(blobs: Blobs, body: Body, hashers: list[Hasher]) -> Blob:
    """The body in a blob. With chunked encoding the size shows only at the end, so the bytes are gathered first."""
    try:
        gathered = body.read_all() if body.length < 0 else None
        blob = blobs.create(body.length if gathered is None else len(gathered))
    except NO_ROOM as error:
        raise out_of_space(error) from error
    writer = blob.writer()
    try:
        if gathered is None:
            body.receive(writer, *hashers)
        else:
            _copy(memoryview(gathered), writer, hashers)
    except (Refusal, OSError):
        blob.unlink()
        raise
    finally:
        writer.close()
    return blob


def _copy(data: memoryview, writer: Writer, hashers: list[Hasher]) -> None:
    offset = 0
    while offset < len(data):
        piece = writer.window(offset)[: len(data) - offset]
        piece[:] = data[offset : offset + len(piece)]
        writer.keep(offset, piece)
        for hasher in hashers:
            hasher.update(piece)
        offset += len(piece)


def _sent_checksum(request: Request, bucket: Bucket) -> Checksum | None:
    """What the client says its bytes add up to; None if it says nothing that is checked."""
    type_, value = request.header("ais-checksum-type"), request.header("ais-checksum-value")
    if bucket.checksum_type == "none" or not type_ or not value or type_ == "none":
        return None
    if type_ not in TYPES:
        raise Dropped
    return Checksum(type_, value)


def _custom_in(request: Request) -> dict[str, str]:
    pairs = (value.partition("=") for value in request.header_values("ais-custom-md"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _metadata(found: Object, bucket: Bucket) -> Headers:
    headers = [("Ais-Atime", str(found.atime_ns))]
    if found.checksum is not None:
        headers += [("Ais-Checksum-Type", found.checksum.type), ("Ais-Checksum-Value", found.checksum.value)]
    if bucket.versioned:
        headers.append(("Ais-Version", str(found.version)))
    return headers + _custom_headers(found)


def _custom_headers(found: Object) -> Headers:
    return [("Ais-Custom-Md", f"{key}={value}") for key, value in found.custom.items()]


def _parts_headers(found: Object) -> Headers:
    if not found.parts:
        return []
    largest = max(part.size for part in found.parts)
    return [("Ais-Chunks-Count", str(len(found.parts))), ("Ais-Chunks-Max-Chunk-Size", str(largest))]


def _etag(found: Object) -> str:
    value = found.checksum.value if found.checksum else ""
    return f'"v1-{value}-{int(found.modified * 1e9)}"'


def _refuse_to_start_in_a_hole(stretch: Segments, found: Object, offset: int, extent: Headers) -> None:
    """A range that starts inside a missing part is a 404; at the part's first byte it is a 206 that breaks off."""
    if stretch.pieces[0][0] is not None or not stretch.pieces[0][1]:
        return
    for part in found.parts:
        if offset < part.size:
            message = f"[fs-path] {found.bck}/{part.key.file_name}: chunk does not exist"
            raise Refusal(404, message, "PathError", extent)
        offset -= part.size


def _missing(bck: Bck, name: str, node: str) -> Refusal:
    return Refusal(404, f"{node}: {bck}/{name} does not exist", "ErrNotFound")
