"""A transport between a client and the cluster: it writes down every request, and does what a story tells it to do.

The requests that no rule is for go on to the cluster, by fastmpu's own transport, uncopied. A rule's action gets the
request and `forward`, which really sends it; so an action can answer in the cluster's stead, lose an answer after the
request was stored, wait, or change the world while the request is under way.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httpx

from fastmpu._transport import Body, BodyStream, Piece, ZeroCopyTransport

Forward = Callable[[httpx.Request], httpx.Response]
Action = Callable[[httpx.Request, Forward], httpx.Response]


@dataclass(frozen=True)
class Wire:
    """One request as it went out. `kind` is what AIStore would call it; `direct` means with a redirect's marker."""

    kind: str
    method: str
    origin: str
    path: str
    query: dict[str, str]
    part: int | None
    direct: bool
    authorization: str | None = field(repr=False)  # locals of this module are in tracebacks, too
    length: int
    stream: object

    @classmethod
    def of(cls, request: httpx.Request) -> Wire:
        target = bytes(request.extensions.get("target", request.url.raw_path)).decode("ascii")
        path, _, rest = target.partition("?")
        query = {key: values[-1] for key, values in parse_qs(rest, keep_blank_values=True).items()}
        direct = "pid" in query
        return cls(
            kind=_kind(request.method, path, query, direct),
            method=request.method,
            origin=f"{request.url.scheme}://{request.url.host}:{request.url.port}",
            path=unquote(path),
            query=query,
            part=int(query["partNumber"]) if "partNumber" in query else None,
            direct=direct,
            authorization=request.headers.get("authorization"),
            length=int(request.headers.get("content-length", 0)),
            stream=request.stream,
        )


def _kind(method: str, path: str, query: dict[str, str], direct: bool) -> str:
    if path == "/v1/daemon":
        return "map"
    if path.startswith("/v1/buckets/"):
        return "bucket"
    uploading = "uploadId" in query
    if method == "PUT":
        # Without a marker it only asks where to send: no body goes to a proxy.
        return ("part" if uploading else "put") if direct else "locate"
    if method == "POST":
        return "complete" if uploading else "create"
    if method == "DELETE":
        return "abort" if uploading else "delete"
    return method.lower()


@dataclass
class _Rule:
    kind: str
    part: int | None
    direct: bool | None
    times: int
    action: Action


class Interposer(ZeroCopyTransport):
    """Give it as `Client(transport=...)`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self._lock = threading.Lock()
        self._wires: list[Wire] = []
        self._rules: list[_Rule] = []

    def on(
        self, kind: str, action: Action, *, part: int | None = None, direct: bool | None = None, times: int = 10**9
    ) -> None:
        """Do `action` with the next `times` requests of this kind; "any" is every kind. The rule told first wins."""
        with self._lock:
            self._rules.append(_Rule(kind, part, direct, times, action))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        wire = Wire.of(request)
        with self._lock:
            self._wires.append(wire)
            action = self._action(wire)
        forward = super().handle_request
        return forward(request) if action is None else action(request, forward)

    def _action(self, wire: Wire) -> Action | None:
        for rule in self._rules:
            if (
                rule.times
                and rule.kind in ("any", wire.kind)
                and rule.part in (None, wire.part)
                and rule.direct in (None, wire.direct)
            ):
                rule.times -= 1
                return rule.action
        return None

    @property
    def wires(self) -> list[Wire]:
        with self._lock:
            return list(self._wires)

    def of(self, kind: str) -> list[Wire]:
        return [wire for wire in self.wires if wire.kind == kind]

    def count(self, kind: str) -> int:
        """How often, a request that a proxy sends on to its target counted once."""
        found = self.of(kind)
        return sum(wire.direct for wire in found) or len(found)

    def parts_sent(self) -> list[int | None]:
        """Part numbers whose bodies went out, in that order; a number that is there twice was sent twice."""
        return [wire.part for wire in self.of("part")]

    def uploads_touched(self) -> set[str]:
        return {wire.query["uploadId"] for wire in self.wires if "uploadId" in wire.query}

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing may be sent within the block."""
        before = len(self.wires)
        yield
        assert self.wires[before:] == []


# --- actions ----------------------------------------------------------------------------------------------------------


def _answered(request: httpx.Request, status: int, headers: dict[str, str], content: bytes) -> httpx.Response:
    """An answer, and in the request's record what the transport would have left there for it."""
    record = request.extensions.get("exchange")
    if record is not None:
        record.head_sent = record.answered = True
        record.status = status
    return respond(status, headers, content)


def respond(status: int, headers: dict[str, str], content: bytes) -> httpx.Response:
    """As a transport gives it: still to be read."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


def refuse(status: int, tcode: str = "", message: str = "injected", node: str = "t[faulty]") -> Action:
    """AIStore says no before it has stored anything, in its own JSON: in the body, for HEAD in `Hdr-Error`."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        value = {"message": message, "method": request.method, "node": node, "status": status}
        text = json.dumps({**value, "tcode": tcode} if tcode else value)
        headers = {"Hdr-Error": text} if request.method == "HEAD" else {"Content-Type": "application/json"}
        content = b"" if request.method == "HEAD" else text.encode() + b"\n"
        return _answered(request, status, headers, content)

    return action


def answer(status: int, content: bytes = b"", **headers: str) -> Action:
    """Any other answer, the request unseen by the cluster; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        return _answered(request, status, named, content)

    return action


def lose_answer(request: httpx.Request, forward: Forward) -> httpx.Response:
    """The request arrives and is served, and then the network breaks: its answer is never seen."""
    forward(request).read()
    record = request.extensions.get("exchange")
    if record is not None:
        record.answered, record.status = False, None
    raise httpx.ReadError("injected: connection reset by peer")


def time_out(request: httpx.Request, forward: Forward) -> httpx.Response:
    """Served as well, but the answer does not come in time."""
    forward(request).read()
    raise httpx.ReadTimeout("injected: no answer in time")


def gateway_error(request: httpx.Request, forward: Forward) -> httpx.Response:
    """An ingress answers 502 with a page of its own, though the target behind it has served the request."""
    forward(request).read()
    page = b"<html><h1>502 Bad Gateway</h1></html>"
    return _answered(request, 502, {"Content-Type": "text/html"}, page)


def unreachable(request: httpx.Request, forward: Forward) -> httpx.Response:
    """Nobody listens: not a byte was sent."""
    raise httpx.ConnectError("injected: connection refused")


def meanwhile(act: Callable[[], object]) -> Action:
    """Something happens just before this request is sent."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        act()
        return forward(request)

    return action


def afterwards(act: Callable[[], object]) -> Action:
    """Something happens when this request was answered, before the client sees the answer."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = forward(request)
        act()
        return response

    return action


def within_body(act: Callable[[], object]) -> Action:
    """Something happens when the kernel has taken the first piece of this request's body."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        assert isinstance(request.stream, BodyStream)
        request.stream = BodyStream(_Interrupted(request.stream.body, act))
        return forward(request)

    return action


class _Interrupted(Body):
    """A body during which something happens."""

    def __init__(self, body: Body, act: Callable[[], object]):
        self.length = body.length
        self._body = body
        self._act = act

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        acted = False
        for piece in self._body.pieces(in_memory):
            yield piece
            if not acted:
                acted = True
                self._act()
