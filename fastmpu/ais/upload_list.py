"""The cluster's own list of unfinished uploads: XML, since only the S3 dialect has it (protocol 7).

What comes is a server's word and no more: it may be large, malformed, or made to do harm. So it is read by events, its
size is bounded by who fetches it, and a DTD, without which there are no entities, ends the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final
from xml.parsers import expat

from ..errors import NotAIStoreError
from .messages import Message
from .responses import shown

MAX_LIST: Final = 16 << 20  # bytes of one page; some 80,000 uploads
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
_UPLOAD_ID: Final = re.compile(r"[!-~]{1,1024}")
_OF_UPLOAD: Final = ("Initiated", "Key", "UploadId")
_OF_PAGE: Final = ("IsTruncated", "NextKeyMarker", "NextUploadIdMarker")


@dataclass(frozen=True)
class ListedUpload:
    """`created`: seconds of the cluster's clock. `name`: of the object, as the cluster tells it."""

    upload_id: str
    name: str
    created: float


@dataclass
class Page:
    """One answer. `next_key` and `next_id` are where the next one begins, if it is `truncated`."""

    uploads: list[ListedUpload] = field(default_factory=list)
    truncated: bool = False
    next_key: str = ""
    next_id: str = ""


def parse_page(message: Message, body: bytes) -> Page:
    """NotAIStoreError for anything but a list of uploads."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(body, True)
        return reader.page()
    except (expat.ExpatError, ValueError) as error:
        raise NotAIStoreError(
            f"cannot {message.about}: the answer is no list of uploads ({error}): "
            f"{shown(body[:80].decode('utf-8', 'replace'))!r}..."
        ) from error


class _Reader:
    """Keeps the text of the elements that matter; where they stand is not looked at more closely than that."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._text = ""
        self._upload: dict[str, str] = {}
        self._page: dict[str, str] = {}
        self._found: list[ListedUpload] = []

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a document type")

    def start(self, name: str, _: object) -> None:
        name = name.rpartition(" ")[2]  # without its namespace
        if not self._path and not name.endswith("UploadsResult"):
            raise ValueError(f"it is a {shown(name)!r}")
        self._path.append(name)
        self._text = ""

    def data(self, text: str) -> None:
        self._text += text

    def end(self, _: str) -> None:
        name = self._path.pop()
        if self._path[1:] == ["Upload"] and name in _OF_UPLOAD:
            self._upload[name] = self._text
        elif len(self._path) == 1 and name in _OF_PAGE:
            self._page[name] = self._text
        elif len(self._path) == 1 and name == "Upload":
            self._found.append(_upload_of(self._upload))
            self._upload = {}

    def page(self) -> Page:
        truncated = self._page.get("IsTruncated", "").strip().lower() == "true"
        last = self._found[-1:] or [ListedUpload("", "", 0.0)]
        # AIStore 5.0 does not say where the next page begins: behind the last entry.
        next_id = self._page.get("NextUploadIdMarker") or last[0].upload_id
        return Page(self._found, truncated, self._page.get("NextKeyMarker") or last[0].name, next_id)


def _upload_of(fields: dict[str, str]) -> ListedUpload:
    missing = [name for name in _OF_UPLOAD if not fields.get(name)]
    if missing:
        raise ValueError(f"an upload has no {missing[0]}")
    if not _UPLOAD_ID.fullmatch(fields["UploadId"]):
        raise ValueError(f"{shown(fields['UploadId'])!r} is no upload id")
    return ListedUpload(fields["UploadId"], fields["Key"], _seconds(fields["Initiated"].strip()))


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)!r} is no time")
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc).timestamp()
    return whole + float(match[2] or 0)


def new_ones(page: Page, known: set[str]) -> Iterable[ListedUpload]:
    """Without those of earlier pages: targets that do not know the marker begin again."""
    for each in page.uploads:
        if each.upload_id not in known:
            known.add(each.upload_id)
            yield each
