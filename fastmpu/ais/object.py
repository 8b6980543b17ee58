"""An object: put, get, head, delete, and the two ways to upload it in parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from .._transport import Body, BufferBody, Exchange
from ..errors import NotAIStoreError, ObjectNotFoundError, UsageError
from .cluster_map import ClusterMap, Origin
from .messages import ObjectMessages
from .multipart import MultipartUpload, flat_view
from .names import check_object_name
from .placement import name_digest
from .reader import ObjectReader
from .request import Reply

if TYPE_CHECKING:
    from .._upload.receipt import Receipt
    from .bucket import Bucket

_HEX = re.compile(r"[0-9a-f]{8,128}")
CHECKSUM_TYPES = ("xxhash", "xxhash2", "crc32c", "md5", "sha256", "sha512")


@dataclass(frozen=True)
class ObjectProps:
    """What HEAD says of an object. `size` in bytes; the checksum is the cluster's own, of the type it chose (protocol
    5.3).
    """

    name: str
    size: int
    checksum_type: str
    checksum_value: str
    version: str
    atime_ns: int
    location: str
    custom: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, headers: Mapping[str, str]) -> ObjectProps:
        size = headers.get("content-length", "0")  # HEAD of an empty object has none (protocol 10)
        custom = headers.get("ais-custom-md", "")
        if not size.isdecimal():
            raise NotAIStoreError(f"HEAD of {name}: Content-Length {size!r} is not a size")
        pairs = (item.partition("=") for item in custom.split(",") if item)
        return cls(
            name=name,
            size=int(size),
            checksum_type=headers.get("ais-checksum-type", ""),
            checksum_value=headers.get("ais-checksum-value", ""),
            version=headers.get("ais-version", ""),
            atime_ns=int(headers.get("ais-atime", "0") or 0),
            location=headers.get("ais-location", ""),
            custom={key.strip(): value.strip() for key, _, value in pairs},
        )


def _checksum_headers(checksum: Any) -> dict[str, str]:
    if not isinstance(checksum, tuple) or len(checksum) != 2:
        raise UsageError(f"checksum={checksum!r}: it must be (type, hex), as in ('crc32c', 'e3069283')")
    kind, value = checksum
    if kind not in CHECKSUM_TYPES:  # AIStore drops the connection at an unknown type (protocol 2)
        raise UsageError(f"checksum type {kind!r}: AIStore knows {', '.join(CHECKSUM_TYPES)}")
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise UsageError(f"checksum value {value!r}: it must be lower-case hex")
    return {"ais-checksum-type": kind, "ais-checksum-value": value}


class Put(NamedTuple):
    """What of a put is to be proved: the target that has answered it, and the name's digest, if there is one. Not the
    answer, with all that belongs to it: thousands of puts wait for their proof."""

    origin: Origin
    name_digest: int | None

    def at_owner(self, cluster_map: ClusterMap) -> bool:
        """Whether that target owns the name by this map: only there the object is found again (reliability S8). False
        where that is not ours to compute, as for a backend's objects."""
        return self.name_digest is not None and self.origin in cluster_map.owner(self.name_digest)


class Object:
    """A name in a bucket; whether it exists, only requests tell. `Bucket.object(name)` makes it."""

    def __init__(self, bucket: Bucket, name: str):
        self._bucket = bucket
        self._endpoint = bucket.client.endpoint
        self.name = check_object_name(name)
        self._messages: ObjectMessages = bucket.messages.object(name)

    def __repr__(self) -> str:
        return f"<Object {self.uri}>"

    @property
    def bucket(self) -> Bucket:
        return self._bucket

    @property
    def uri(self) -> str:
        return self._messages.uri

    def put(self, data: Any, *, checksum: tuple[str, str] | None = None) -> httpx.Response:
        """Store `data` (a C-contiguous buffer) as the whole object, in one request.

        `checksum` is (type, lower-case hex), as in ("crc32c", "e3069283"): AIStore checks it before it stores, and
        raises ChecksumRefusedError. A put may be repeated freely; it replaces the object.
        """
        reply, _ = self.put_body(BufferBody(flat_view(data, self.uri)), checksum=checksum)
        return reply.as_httpx()

    def put_body(
        self,
        body: Body,
        *,
        checksum: tuple[str, str] | None = None,
        exchange: Exchange | None = None,
        cancel: Any = None,
    ) -> tuple[Reply, Put]:
        """`put` for a body of the transport's: the answer, and what is to be proved. A put whose checksum equals the
        stored object's is answered without any `Ais-` header and has stored and checked nothing (protocol 4.1)."""
        headers = {}
        if checksum is not None:
            headers = _checksum_headers(checksum)
        message = self._messages.put(headers)
        # Each put asks anew: a stale redirect would store the object where nobody finds it (reliability S8).
        node = self._endpoint.locate(self._messages.put({}), body.length)
        reply = self._endpoint.send(node, message, body, body.length, exchange=exchange, cancel=cancel)
        return reply, Put(node.origin, self._name_digest)

    @cached_property
    def _name_digest(self) -> int | None:
        bucket = self._bucket
        remote = bucket.provider != "ais" or (bucket.namespace and not bucket.namespace.startswith("@#"))
        if remote:  # a backend's, or another cluster's: where it lies is not ours to compute
            return None
        return name_digest(bucket.provider, bucket.namespace, bucket.name, self.name)

    def get_reader(self, *, first: int = 0, last: int | None = None) -> ObjectReader:
        """Reads the object back, whole or bytes `first`..`last`; nothing is requested before the reader is used."""
        return ObjectReader(self._endpoint, self._messages, first, last)

    def head(self) -> ObjectProps:
        """Raises ObjectNotFoundError if there is none. Does not prove that the object can be read (protocol H11)."""
        response, _ = self._endpoint.ask(self._messages.head())
        return ObjectProps.of(self.uri, response.headers)

    def part_count(self) -> int:
        """How many parts the object is stored in; 0 if it was stored whole."""
        response, _ = self._endpoint.ask(self._messages.head(props="chunked"))
        count = response.headers.get("ais-chunks-count", "0")
        return int(count) if count.isdecimal() else 0

    def exists(self) -> bool:
        try:
            self.head()
        except ObjectNotFoundError:
            return False
        return True

    def delete(self, *, missing_ok: bool = False) -> None:
        """Raises ObjectNotFoundError if there is none, unless `missing_ok`."""
        try:
            self._endpoint.ask(self._messages.delete())
        except ObjectNotFoundError:
            if not missing_ok:
                raise

    def multipart_upload(self) -> MultipartUpload:
        """An upload to drive by hand, from your own threads; nothing is requested before its `create()`."""
        return MultipartUpload(self._endpoint, self._messages)

    def upload(self, source: Any, **options: Any) -> Receipt:
        """Upload a file or a buffer to this object, fast and proved; the options are those of `fastmpu.upload`."""
        # The one arrow that points up the import map, at call time: users look for this verb here.
        from .._upload.uploader import upload

        return upload(source, self, **options)
