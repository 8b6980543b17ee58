"""A bucket: create, look, list, delete, and its objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BucketExistsError, BucketNotFoundError, NotAIStoreError, UsageError
from .messages import BucketMessages
from .names import check_bucket_name, check_namespace, check_provider, uri_of
from .object import Object
from .responses import json_of
from .upload_list import MAX_LIST, ListedUpload, Page, new_ones, parse_page

if TYPE_CHECKING:
    from .client import Client

logger = logging.getLogger("fastmpu")

MAX_PAGE = 64 << 20  # bytes of one page of a list


@dataclass(frozen=True)
class ListEntry:
    """One object in a list. Fields that were not asked for are empty."""

    name: str
    size: int
    checksum: str = ""
    version: str = ""


class BucketProps(dict[str, Any]):
    """The bucket's properties, as AIStore names them (protocol 3)."""

    @property
    def checksum_type(self) -> str:
        return str(self.get("checksum", {}).get("type", ""))


class Bucket:
    """A name on a cluster; whether it exists, only requests tell. `Client.bucket(name)` makes it."""

    def __init__(self, client: Client, name: str, provider: str = "ais", namespace: str = ""):
        self.client = client
        self.name = check_bucket_name(name)
        self.provider = check_provider(provider)
        self.namespace = check_namespace(namespace)
        self.uri = uri_of(self.provider, self.namespace, self.name)
        self.messages = BucketMessages(self.provider, self.namespace, self.name, self.uri)

    def __repr__(self) -> str:
        return f"<Bucket {self.uri}>"

    def create(self, *, exist_ok: bool = False, props: Mapping[str, Any] | None = None) -> Bucket:
        """Make the bucket, with `props` as AIStore names them, e.g. {"checksum": {"type": "md5"}}. Returns itself.

        Raises BucketExistsError unless `exist_ok`; an existing bucket keeps its properties.
        """
        try:
            self.client.endpoint.ask(self.messages.create(props))
        except BucketExistsError:
            if not exist_ok:
                raise
        return self

    def head(self) -> BucketProps:
        """The properties; raises BucketNotFoundError if there is no such bucket."""
        response, _ = self.client.endpoint.ask(self.messages.head())
        text = response.headers.get("ais-bucket-props", "{}")
        try:
            return BucketProps(json.loads(text))
        except ValueError:
            raise NotAIStoreError(f"HEAD of {self.uri}: the bucket's properties are not JSON: {text[:80]!r}") from None

    def delete(self, *, missing_ok: bool = False) -> None:
        """Delete the bucket with all its objects."""
        try:
            self.client.endpoint.ask(self.messages.delete())
        except BucketNotFoundError:
            if not missing_ok:
                raise

    def list(self, prefix: str = "", *, props: str = "name,size", page_size: int = 0) -> Iterator[ListEntry]:
        """Objects by name, fetched page by page while you iterate. Uploads that are not complete are not among them.

        `props` asks for more fields, as in "name,size,checksum,version"; `page_size=0` leaves it to the cluster.
        """
        token = ""
        while True:
            message = self.messages.list_page(prefix, props, page_size, token)
            _, body = self.client.endpoint.ask(message, limit=MAX_PAGE)
            page = json_of(message, body)
            for entry in page.get("entries") or ():  # an empty list comes as null (protocol 10)
                yield ListEntry(
                    name=entry["name"],
                    size=int(entry.get("size", 0)),
                    checksum=entry.get("checksum", ""),
                    version=entry.get("version", ""),
                )
            token = page.get("continuation_token", "")
            if not token:
                return

    def list_uploads(self, *, page_size: int = 0) -> Iterator[ListedUpload]:
        """Unfinished uploads of anybody, by the cluster's own list, which says nothing of who is at them.

        Only of `ais` buckets without a namespace: UsageError for others. `page_size=0` leaves it to the cluster, whose
        AIStore 5.0 then sends all at once; with a limit several targets' pages do not fit together there, and the list
        may end early, with a warning.
        """
        if self.provider != "ais" or self.namespace:
            raise UsageError(f"{self.uri}: AIStore lists the uploads of ais:// buckets without a namespace only")
        known: set[str] = set()
        page = Page()
        while True:
            message = self.messages.list_uploads(page_size, page.next_key, page.next_id)
            _, body = self.client.endpoint.ask(message, limit=MAX_LIST)
            page = parse_page(message, body)
            before = len(known)
            yield from new_ones(page, known)
            if not page.truncated:
                return
            if len(known) == before:
                logger.warning("%s: the cluster's list of uploads goes in circles; some may be missing", self.uri)
                return

    def object(self, name: str) -> Object:
        """An object of this bucket; InvalidNameError for names that AIStore would refuse or mangle."""
        return Object(self, name)
