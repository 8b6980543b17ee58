"""Heads of messages: a request's bytes to a `Request`, an answer's status and headers to bytes.

Requests are parsed by h11; those that are as plain as most, by one pattern that takes them as h11 does, in a tenth of
the time. Answers are written here, because h11 would refuse what AIStore writes: raw characters in
`Location`, UTF-8 in `Hdr-Error`, plain text without a length for what is no HTTP (protocol 1.2, 1.6, 2).
"""

from __future__ import annotations

import http
import re
import time
import urllib.parse
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

import h11

__all__ = ["CONTINUE", "BadHead", "Query", "Request", "parse_request", "response_head"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]+: ?(?:[!-~](?:[ -~]*[!-~])?)?\r\n)+)\r\n"
)
_LENGTH_DIGITS = 20  # as many as h11 takes
_FIELD = re.compile(r"([^:]+): ?([^\r]*)\r\n")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_UNESCAPED = "%{:02X}"


# What h11 says about it, and what AIStore does.
_HOST_FAILURES = {
    "Missing mandatory Host: header": "missing required Host header",
    "Found multiple Host: headers": "too many Host headers",
}


class BadHead(Exception):
    """What came is no request. AIStore says so in plain text, without Date and length, and closes (protocol 1.6)."""

    def __init__(self, status: int, detail: str = "", *, with_status: bool = True) -> None:
        phrase = f"{status} {_phrase(status)}"
        text = f"{phrase}: {detail}" if detail and with_status else detail or phrase
        super().__init__(text)
        line = f"{phrase}: {detail}" if detail and with_status else phrase
        head = f"HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        self.answer = (head + text).encode()


class Query:
    """A query string: passed on as it came, looked into by name (protocol 1.1). Of a repeated name the first counts."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self._values: dict[str, str] = {}
        for item in raw.split("&"):
            name, _, value = item.partition("=")
            self._values.setdefault(urllib.parse.unquote_plus(name, errors="surrogateescape"), value)

    def raw_value(self, name: str) -> str:
        """The value as it was sent, or "" if there is none."""
        return self._values.get(name, "")

    def value(self, name: str) -> str:
        """The value unescaped, or "" if there is none."""
        value = self._values.get(name)
        return urllib.parse.unquote_plus(value, errors="surrogateescape") if value else ""

    def __contains__(self, name: str) -> bool:
        return name in self._values


@dataclass(frozen=True)
class Request:
    """A request's head. `path` is unescaped; bytes that are not UTF-8 are kept as surrogates."""

    method: str
    path: str
    query: Query
    headers: tuple[tuple[str, str], ...]  # names in lower case
    named: dict[str, str]  # the same; of a repeated name the first counts
    http_1_0: bool
    length: int  # of the body; -1 for chunked encoding, 0 if none was announced

    def header(self, name: str) -> str:
        return self.named.get(name, "")

    def header_values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def wants_close(self) -> bool:
        connection = self.header("connection")
        if not connection:
            return self.http_1_0
        said = {word.strip().lower() for word in connection.split(",")}
        return "close" in said or (self.http_1_0 and "keep-alive" not in said)

    @property
    def expects_continue(self) -> bool:
        return self.header("expect").lower() == "100-continue" and self.length != 0 and not self.http_1_0


def parse_request(head: bytes) -> Request:
    """The request in `head`, which ends with its empty line. BadHead if it is none."""
    return _plain(head) or _by_h11(head)


def _plain(head: bytes) -> Request | None:
    found = _PLAIN.fullmatch(head)
    if found is None:
        return None
    fields = [(name.lower(), value) for name, value in _FIELD.findall(found[3].decode("ascii"))]
    named = dict(reversed(fields))
    length = named.get("content-length", "0")
    once = [name for name, _ in fields if name in ("host", "content-length")]
    if "host" not in named or len(once) > len(set(once)) or "transfer-encoding" in named:
        return None
    if not length.isdecimal() or len(length) > _LENGTH_DIGITS:
        return None
    path, query = _split_target(found[2].decode("ascii"))
    return Request(found[1].decode("ascii"), path, Query(query), tuple(fields), named, False, int(length))


def _by_h11(head: bytes) -> Request:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    line_end = head.find(b"\n")
    # h11 wants ASCII in the request line; AIStore takes any bytes there and sees UTF-8.
    head = _NOT_ASCII.sub(lambda match: _UNESCAPED.format(match[0][0]).encode(), head[:line_end]) + head[line_end:]
    try:
        parser.receive_data(head)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise _refused_by_h11(error) from error
    if not isinstance(event, h11.Request):  # nothing but empty lines
        raise BadHead(400)
    if not event.http_version.startswith(b"1."):
        raise BadHead(505, "unsupported protocol version")
    path, query = _split_target(event.target.decode("ascii"))
    headers = tuple((name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in event.headers)
    named = dict(reversed(headers))
    length = -1 if "transfer-encoding" in named else int(named.get("content-length", 0))
    http_1_0 = event.http_version == b"1.0"
    return Request(event.method.decode("ascii"), path, Query(query), headers, named, http_1_0, length)


def response_head(status: int, headers: list[tuple[str, str]], *, http_1_0: bool = False, shift: float = 0.0) -> bytes:
    """The bytes of an answer's head. Line breaks in values become spaces, as Go's HTTP library writes them.

    `shift` is how many seconds the node's clock is ahead.
    """
    lines = [f"HTTP/1.{0 if http_1_0 else 1} {status} {_phrase(status)}"]
    for name, value in headers:
        lines.append(f"{name}: " + value.replace("\n", " ").replace("\r", " ").strip(" \t"))
    lines.append(f"Date: {_date(int(time.time() + shift))}\r\n\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def _split_target(target: str) -> tuple[str, str]:
    if target.startswith(("http://", "https://")):  # the form meant for forward proxies: the authority is skipped
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    if not path.startswith("/") and path != "*":
        raise BadHead(400)
    if _BAD_ESCAPE.search(path):
        raise BadHead(400)
    return urllib.parse.unquote(path, errors="surrogateescape"), query


def _refused_by_h11(error: h11.RemoteProtocolError) -> BadHead:
    if error.error_status_hint == 501:
        return BadHead(501, "Unsupported transfer encoding", with_status=False)
    return BadHead(400, _HOST_FAILURES.get(str(error), ""))


@lru_cache(maxsize=64)
def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
