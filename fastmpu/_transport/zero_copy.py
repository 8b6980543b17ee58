"""`ZeroCopyTransport`: the package's door for httpx, and the border where its errors become httpx's.

Threads: any number; what they share is the Wire's. A response belongs to the thread that reads it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from typing import Final

import h11
import httpx

from .body import Body, WithheldBody
from .connect import DEAD_PEER_SECONDS, PORTS, Connect, Connector, NoTls, Origin
from .exchange import Exchange, Limits, Phase, Stalled
from .head import AnswerHead
from .pool import IDLE_SECONDS, MAX_IDLE, ConnectionPool
from .wire import Answer, Broken, Wire, WireRequest

# What a clock, and what the network, becomes in each phase. What a body raises stays what it is.
_CLOCKS: Final[dict[Phase | None, type[httpx.TimeoutException]]] = {
    Phase.CONNECT: httpx.ConnectTimeout,
    Phase.SEND: httpx.WriteTimeout,
    Phase.WAIT: httpx.ReadTimeout,
    Phase.READ: httpx.ReadTimeout,
}
_FAILURES: Final[dict[Phase | None, type[httpx.NetworkError]]] = {
    Phase.CONNECT: httpx.ConnectError,
    Phase.SEND: httpx.WriteError,
    Phase.WAIT: httpx.ReadError,
    Phase.READ: httpx.ReadError,
}


class BodyStream(httpx.SyncByteStream):
    """A `Body` as a request's stream: `httpx.Request(method, url, stream=BodyStream(body))`. (As `content=` httpx would
    wrap it in a stream of its own, and the bytes would be copied.) The transport adds `Content-Length` when it is
    absent; other transports of httpx get copies, in chunks."""

    def __init__(self, body: Body):
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.body, WithheldBody):
            raise httpx.LocalProtocolError("this transport cannot send a request's head without its body")
        return iter(self.body)


class ZeroCopyTransport(httpx.BaseTransport):
    """HTTP/1.1 for httpx whose request bodies go to the kernel uncopied. `BodyStream` says how to give it one.

    Request extensions, all optional: `timeout` (httpx's; `pool` has no meaning here, as connections are not rationed),
    `target` (bytes: the request target as it is to be sent), `cancel` (an Event), `exchange` (an `Exchange` to fill),
    `fence` (seconds: when an answer stays away, half-close and wait for it that much longer; protocol H3), `progress`
    (a pair: bytes a second and seconds; a request that is sent more slowly than that, on average over so long, has
    stalled: httpx.WriteTimeout, or ReadTimeout after its last byte went to the kernel).

    `Authorization` and its likes are shown by no frame of a traceback, nor by an error's words, here.

    Nothing is followed, repeated, decoded or read from the environment. `Expect: 100-continue` may be sent but is not
    waited for. Raises httpx's own errors, `Cancelled`, `ShortBody`, and as they are those that a body raises.
    """

    keeps_records = True
    """Each request's Exchange is exact, so that nobody has to assume the worst."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        connect: Connect | None = None,
        idle_seconds: float = IDLE_SECONDS,
        max_idle: int = MAX_IDLE,
        dead_peer_seconds: float = DEAD_PEER_SECONDS,
    ):
        """`tls` is needed for https, and told to offer HTTP/1.1 only; `connect` replaces `Connector(tls)`.

        `idle_seconds` and `max_idle` (per origin): what the pool keeps; `dead_peer_seconds`: see `Connector`.
        """
        self.pool = ConnectionPool(
            connect or Connector(tls, dead_peer_seconds=dead_peer_seconds),
            idle_seconds=idle_seconds,
            max_idle=max_idle,
        )
        self.wire = Wire(self.pool)
        """What sends, for whoever has no use for objects of httpx's. A subclass may have put something before it."""
        self.takes_turns = connect is None and type(self) is ZeroCopyTransport
        """While one request waits, others may go on in the same thread (waiting.py). What others have added may wait in
        ways of its own."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends and waits for the head of the answer. Read the stream to its end, or close it."""
        record = request.extensions.get("exchange") or Exchange()
        told = WireRequest(
            origin_of(request.url),
            request.method,
            request.extensions.get("target", request.url.raw_path),
            request.headers.raw,
            _body(request),
        )
        try:
            answer = self.wire.send(told, Limits.of(request.extensions), record)
        except Broken as broken:
            raise as_httpx(broken, request) from broken.__cause__
        if answer.content is None:
            return as_response(answer.head, _AnswerStream(answer, request))
        return as_response(answer.head, httpx.ByteStream(answer.content))

    def close(self) -> None:
        """Closes the pool; answers that are still being read can be read to their end."""
        self.pool.close()

    def __repr__(self) -> str:
        return f"<ZeroCopyTransport {self.pool!r}>"


class _AnswerStream(httpx.SyncByteStream):
    """The body of an answer, to be read once."""

    def __init__(self, answer: Answer, request: httpx.Request):
        self._answer = answer
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        if self._answer.closed:
            raise httpx.StreamClosed
        try:
            yield from self._answer.read()
        except Broken as broken:
            raise as_httpx(broken, self._request) from broken.__cause__

    def close(self) -> None:
        self._answer.close()


def origin_of(url: httpx.URL) -> Origin:
    """Raises httpx.UnsupportedProtocol."""
    if url.scheme not in PORTS or not url.host:
        raise httpx.UnsupportedProtocol(f"cannot send to {url.scheme}://{url.host}: http and https only")
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme])


def as_response(head: AnswerHead, stream: httpx.SyncByteStream) -> httpx.Response:
    """As httpx has it."""
    extensions = {"http_version": b"HTTP/" + head.version, "reason_phrase": head.reason}
    return httpx.Response(head.status, headers=head.fields, stream=stream, extensions=extensions)


def as_httpx(broken: Broken, request: httpx.Request) -> httpx.TransportError:
    """The most specific class of httpx for what happened, saying where and when. Raise it from the other's cause."""
    kind: type[httpx.TransportError]
    cause = broken.__cause__
    if isinstance(cause, Stalled):
        kind = _CLOCKS[broken.phase]
    elif isinstance(cause, NoTls):
        kind = httpx.UnsupportedProtocol
    elif isinstance(cause, h11.LocalProtocolError):
        kind = httpx.LocalProtocolError
    elif isinstance(cause, h11.ProtocolError):
        kind = httpx.RemoteProtocolError
    else:
        kind = _FAILURES[broken.phase]
    return kind(str(broken), request=request)


def _body(request: httpx.Request) -> Body | Iterable[bytes]:
    stream = request.stream
    if isinstance(stream, BodyStream):
        return stream.body
    if not isinstance(stream, httpx.SyncByteStream):
        raise httpx.LocalProtocolError("the request's stream is not for synchronous use", request=request)
    return stream
