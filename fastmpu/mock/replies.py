"""How an answer goes out: as it is, or as faults have dressed it.

`send_answer` is the plain way. A `Reply` is the same answer laid open, for faults to change what they like; it holds
all of the body in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from fastmpu.mock.answers import Answer, Content, Headers
from fastmpu.mock.heads import Request, response_head
from fastmpu.mock.wire import Wire

__all__ = ["Reply", "send_answer"]

_PIECE = 64 << 10


def send_answer(wire: Wire, request: Request, answer: Answer, *, close: bool) -> bool:
    """Send an answer; False if its body breaks off, which only the end of the connection can tell the client."""
    head = response_head(answer.status, _headers(request, answer, close=close), http_1_0=request.http_1_0)
    if request.method == "HEAD":
        wire.send(head)
        return True
    wire.send(head + answer.body)
    return answer.content.send(wire) if answer.content else True


def _headers(request: Request, answer: Answer, *, close: bool) -> Headers:
    headers = list(answer.headers)
    if request.method != "HEAD" and answer.status not in (204, 304):
        headers.append(("Content-Length", str(answer.content.size if answer.content else len(answer.body))))
    if close == request.http_1_0:
        return headers  # HTTP/1.0 closes and HTTP/1.1 stays if nobody says anything
    return [*headers, ("Connection", "close" if close else "keep-alive")]


@dataclass
class Reply:
    """An answer about to go out. `size` is what it says its body has; `cut` is where the body ends all the same."""

    request: Request
    status: int
    headers: Headers
    body: bytes
    whole: bool
    before: bytes = b""
    after: bytes = b""
    cut: int | None = None
    shift: float = 0.0  # seconds, of the Date
    change_head: list[Callable[[bytes], bytes]] = field(default_factory=list)
    pace: Callable[[int], int] | None = None  # waits for so many bytes to pass; tells how many may come at once

    @classmethod
    def of(cls, request: Request, answer: Answer, *, close: bool) -> Reply:
        body, whole = answer.body, True
        if answer.content is not None and request.method != "HEAD":
            gathered, whole = _gather(answer.content)
            body += gathered
        headers = _headers(request, answer, close=close)
        return cls(request, answer.status, headers, b"" if request.method == "HEAD" else body, whole)

    def set_header(self, name: str, value: str) -> None:
        self.headers = [item for item in self.headers if item[0].lower() != name.lower()] + [(name, value)]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def send(self, wire: Wire) -> bool:
        """False if the connection has to end for the client to see the body's end."""
        head = response_head(self.status, self.headers, http_1_0=self.request.http_1_0, shift=self.shift)
        for change in self.change_head:
            head = change(head)
        body = self.body if self.cut is None else self.body[: self.cut]
        data = self.before + head + body + self.after
        at = 0
        while at < len(data):
            step = _PIECE if self.pace is None else self.pace(len(data) - at)
            wire.send(data[at : at + step])
            at += step
        return self.whole and self.cut is None


class _Gatherer:
    """Stands in for a wire, and keeps what a content sends."""

    def __init__(self) -> None:
        self.data = bytearray()

    def send(self, data: bytes | memoryview) -> None:
        self.data += data

    def send_file(self, descriptor: int, offset: int, size: int) -> None:
        while size and (some := os.pread(descriptor, size, offset)):
            self.data += some
            offset, size = offset + len(some), size - len(some)
        if size:
            raise FileNotFoundError("the file ended before its announced size")


def _gather(content: Content) -> tuple[bytes, bool]:
    gatherer = _Gatherer()
    whole = content.send(cast(Wire, gatherer))
    return bytes(gatherer.data), whole
