"""Every request fastmpu sends: method, path, query, headers and JSON, and nothing else knows them (protocol 3-5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .names import escape

MAX_PART_NUMBER = 9_999  # the server answers 500 for 10,000 (protocol 5.2)


@dataclass(frozen=True)
class Message:
    """One request, still without an address. `about` says in an error what was being done."""

    method: str
    path: str
    query: str
    about: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Path and query as they go on the wire; never taken from a redirect, which mangles names (protocol 1.2)."""
        return f"{self.path}?{self.query}" if self.query else self.path


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class BucketMessages:
    """The requests on one bucket."""

    provider: str
    namespace: str
    bucket: str
    uri: str

    @property
    def _path(self) -> str:
        return f"/v1/buckets/{self.bucket}"

    @property
    def query(self) -> str:
        return f"provider={self.provider}" + (f"&namespace={quote(self.namespace, safe='')}" if self.namespace else "")

    def create(self, props: Mapping[str, Any] | None) -> Message:
        body = {"action": "create-bck"} | ({"value": dict(props)} if props else {})
        return Message("POST", self._path, self.query, f"create {self.uri}", _json(body), JSON)

    def head(self) -> Message:
        return Message("HEAD", self._path, self.query, f"look at {self.uri}")

    def delete(self) -> Message:
        return Message("DELETE", self._path, self.query, f"delete {self.uri}", _json({"action": "destroy-bck"}), JSON)

    def list_page(self, prefix: str, props: str, page_size: int, token: str) -> Message:
        value: dict[str, Any] = {"prefix": prefix, "props": props, "continuation_token": token}
        if page_size:
            value["pagesize"] = page_size
        body = _json({"action": "list", "value": value})
        return Message("GET", self._path, self.query, f"list {self.uri}", body, JSON)

    def list_uploads(self, page_size: int, next_key: str, next_id: str) -> Message:
        """By the S3 dialect, the only one that has it; it knows a bucket by its name alone (protocol 7)."""
        asked = {"max-uploads": str(page_size or ""), "key-marker": next_key, "upload-id-marker": next_id}
        query = "".join(f"&{name}={quote(value, safe='')}" for name, value in asked.items() if value)
        return Message("GET", f"/s3/{self.bucket}", f"uploads{query}", f"list the unfinished uploads of {self.uri}")

    def object(self, name: str) -> ObjectMessages:
        return ObjectMessages(f"/v1/objects/{self.bucket}/{escape(name)}", self.query, f"{self.uri}/{name}")


@dataclass(frozen=True)
class ObjectMessages:
    """The requests on one object. A part or an abort without its upload id would hit the object itself (protocol
    H7).
    """

    path: str
    query: str
    uri: str

    def put(self, headers: Mapping[str, str]) -> Message:
        return Message("PUT", self.path, self.query, f"put {self.uri}", headers=headers)

    def get(self, byte_range: str) -> Message:
        headers = {"Range": byte_range} if byte_range else {}
        return Message("GET", self.path, self.query, f"get {self.uri}", headers=headers)

    def head(self, props: str = "") -> Message:
        query = f"{self.query}&props={props}" if props else self.query
        return Message("HEAD", self.path, query, f"look at {self.uri}")

    def delete(self) -> Message:
        return Message("DELETE", self.path, self.query, f"delete {self.uri}", _json({"action": "delete"}), JSON)

    def create_upload(self) -> Message:
        body = _json({"action": "mpt-upload"})
        return Message("POST", self.path, self.query, f"create a multipart upload of {self.uri}", body, JSON)

    def _of_upload(self, upload_id: str) -> str:
        if not upload_id:
            raise AssertionError("an upload id is needed: without one this request would hit the object (protocol H7)")
        return f"{self.query}&uploadId={quote(upload_id, safe='')}"

    def put_part(self, upload_id: str, number: int, headers: Mapping[str, str]) -> Message:
        query = f"{self._of_upload(upload_id)}&partNumber={number}"
        return Message("PUT", self.path, query, f"put part {number} of {self.uri}", headers=headers)

    def complete(self, upload_id: str, numbers: Sequence[int]) -> Message:
        parts = [{"part-number": number, "etag": ""} for number in numbers]
        body = _json({"action": "mpt-complete", "value": parts})
        return Message("POST", self.path, self._of_upload(upload_id), f"complete {self.uri}", body, JSON)

    def abort(self, upload_id: str) -> Message:
        body = _json({"action": "mpt-abort"})
        return Message("DELETE", self.path, self._of_upload(upload_id), f"abort {self.uri}", body, JSON)


def cluster_map(origin: str) -> Message:
    return Message("GET", "/v1/daemon", "what=smap", f"fetch the cluster map from {origin}")
