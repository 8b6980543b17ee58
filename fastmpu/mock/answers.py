"""What a node says: an answer, a refusal in AIStore's JSON (protocol 2), or nothing at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Protocol

from fastmpu.mock.wire import Wire

__all__ = [
    "Answer",
    "BodyBroken",
    "Content",
    "Dropped",
    "Headers",
    "Refusal",
    "json_answer",
    "quoted",
    "refusal_answer",
]

Headers = list[tuple[str, str]]


class Content(Protocol):
    """A body too large to be held as bytes; it knows its length and how to go out."""

    @property
    def size(self) -> int: ...

    def send(self, wire: Wire) -> bool:
        """Send all of it; False if it breaks off before its announced end."""
        ...


@dataclass
class Answer:
    """A status, headers beyond Date and Content-Length, and a body of bytes or of content."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    content: Content | None = None
    close: bool = False


class Refusal(Exception):
    """An error answer. It travels as an exception so that a check anywhere ends the request."""

    def __init__(self, status: int, message: str, tcode: str = "", headers: Headers | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.tcode = status, message, tcode
        self.headers: Headers = headers or []


class Dropped(Exception):
    """The connection ends without an answer, as after a panic in a handler of AIStore's (protocol 2)."""


class BodyBroken(Refusal):
    """The request's body ended, or went wrong, before its announced length."""

    def __init__(self, message: str) -> None:
        super().__init__(500, message)


def refusal_answer(refusal: Refusal, *, method: str, path: str, peer: str, node: str) -> Answer:
    """The JSON of an error, in the body or, for HEAD, in the header Hdr-Error."""
    fields: dict[str, str | int] = {"tcode": refusal.tcode} if refusal.tcode else {}
    fields |= {
        "message": refusal.message,
        "method": method,
        "url_path": path,
        "remote_addr": peer,
        "caller": "",
        "node": node,
        "status": refusal.status,
    }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"), *refusal.headers]
    if method == "HEAD":
        return Answer(refusal.status, [*headers, ("Hdr-Error", text)])
    return Answer(refusal.status, headers, text.encode("utf-8", "surrogateescape") + b"\n")


def quoted(text: str) -> str:
    """What a client sent, as it stands in messages: in double quotes, with Go's escapes for what cannot be printed."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    if character in _ESCAPES:
        return _ESCAPES[character]
    if code in _BYTES:
        return f"\\x{code - _BYTES.start + 128:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_BYTES = range(0xDC80, 0xDD00)  # surrogates that stand for bytes which are not UTF-8


def json_answer(value: object) -> Answer:
    """A 200 with JSON, as the cluster map and lists come."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    headers = [("Content-Type", "application/json; charset=utf-8")]
    return Answer(200, headers, text.encode("utf-8", "surrogateescape"))
