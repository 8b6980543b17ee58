"""`ZeroCopyTransport`: the package's one door, and the one border where its errors become httpx's.

Threads: any number, and no locks here. All that is shared is the pool. A response, and the connection below it, belongs
to the thread that reads it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final, NoReturn

import h11
import httpx

from .body import Body, StreamBody
from .connect import DEAD_PEER_SECONDS, Connect, Connector, Origin
from .connection import Connection
from .exchange import Exchange, Limits, Phase, Stalled
from .pool import IDLE_SECONDS, MAX_IDLE, ConnectionPool
from .request_head import RequestHead, write_head
from .sealed import SECRET_NAMES, SealedFields

_PORTS: Final = {"http": 80, "https": 443}
# What a clock, and what the network, becomes in each phase. What a body raises (Phase.BODY) stays what it is.
_CLOCKS: Final[dict[Phase, type[httpx.TimeoutException]]] = {
    Phase.CONNECT: httpx.ConnectTimeout,
    Phase.SEND: httpx.WriteTimeout,
    Phase.WAIT: httpx.ReadTimeout,
    Phase.READ: httpx.ReadTimeout,
}
_FAILURES: Final[dict[Phase, type[httpx.NetworkError]]] = {
    Phase.CONNECT: httpx.ConnectError,
    Phase.SEND: httpx.WriteError,
    Phase.WAIT: httpx.ReadError,
    Phase.READ: httpx.ReadError,
}


class ZeroCopyTransport(httpx.BaseTransport):
    """HTTP/1.1 for httpx whose request bodies go to the kernel uncopied. `Body` says how to give it one.

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

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends and waits for the head of the answer. Read the stream to its end, or close it."""
        limits = Limits.of(request.extensions)
        record = request.extensions.get("exchange") or Exchange()
        record.began = monotonic()
        origin = _origin(request)
        try:
            sealed = SealedFields(request.headers.raw)
            head, body = _prepare(request)
        except h11.LocalProtocolError as error:
            error.__traceback__ = None  # h11's frames hold events half made, which cannot even be shown
            raise httpx.LocalProtocolError(f"{origin}: {error}", request=request) from error
        try:
            connection = self.pool.acquire(origin, limits.connect, limits.cancel)
        except (OSError, Stalled) as error:
            _raise(error, Phase.CONNECT, origin, request, str)
        done = False
        try:
            answer = connection.exchange(head, body, limits, record, sealed)
            content = connection.body_at_hand()
            done = True
        except (OSError, Stalled, h11.ProtocolError) as error:
            _raise(error, connection.phase, origin, request, connection.hide)
        finally:
            if not done:
                self._discard(connection)
        stream: httpx.SyncByteStream
        if content is None:
            stream = _AnswerStream(self.pool, connection, request)
        else:
            self.pool.release(connection)
            stream = httpx.ByteStream(content)
        return httpx.Response(
            answer.status,
            headers=answer.fields,
            stream=stream,
            extensions={
                "http_version": b"HTTP/" + answer.version,
                "reason_phrase": answer.reason,
            },
        )

    def close(self) -> None:
        """Closes the pool; answers that are still being read can be read to their end."""
        self.pool.close()

    def __repr__(self) -> str:
        return f"<ZeroCopyTransport {self.pool!r}>"

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self.pool.release(connection)


class _AnswerStream(httpx.SyncByteStream):
    """The body of an answer. Its connection goes back to the pool at the end, and is closed if that is not reached."""

    def __init__(self, pool: ConnectionPool, connection: Connection, request: httpx.Request):
        self._pool = pool
        self._connection: Connection | None = connection
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            raise httpx.StreamClosed
        try:
            yield from connection.read_body()
        except (OSError, Stalled, h11.ProtocolError) as error:
            _raise(error, connection.phase, connection.origin, self._request, connection.hide)
        finally:
            self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol(
            f"cannot send to {url.scheme}://{url.host}: http and https only", request=request
        )
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])


def _prepare(request: httpx.Request) -> tuple[RequestHead, Body | Iterable[bytes]]:
    """The head, with what is missing added and without what is secret, and the body. Raises h11.LocalProtocolError;
    nothing was sent then."""
    headers = [field for field in request.headers.raw if field[0].lower() not in SECRET_NAMES]
    lengths = []
    names = set()
    for name, value in headers:
        key = name.lower()
        names.add(key)
        if key == b"content-length":
            lengths.append(value)
    if request.method == "CONNECT" or b"upgrade" in names:
        raise h11.LocalProtocolError("this transport does not change protocols")
    if len(lengths) > 1 or (lengths and b"transfer-encoding" in names):
        raise h11.LocalProtocolError("a request has one Content-Length or one Transfer-Encoding, not both")
    if b"host" not in names:
        headers.insert(0, (b"Host", request.url.netloc))
    if b"accept-encoding" not in names:
        headers.append((b"Accept-Encoding", b"identity"))
    body = _body(request, lengths[0] if lengths else None, b"transfer-encoding" in names)
    if isinstance(request.stream, Body) and not lengths:
        headers.append((b"Content-Length", b"%d" % request.stream.length))
    target = request.extensions.get("target", request.url.raw_path)
    return write_head(request.method, target, headers), body


def _body(request: httpx.Request, length: bytes | None, chunked: bool) -> Body | Iterable[bytes]:
    stream = request.stream
    if length is not None and not length.isdigit():
        raise h11.LocalProtocolError(f"Content-Length {length!r} is not a length")
    if isinstance(stream, Body):
        if chunked or (length is not None and int(length) != stream.length):
            raise h11.LocalProtocolError(f"the body has {stream.length} bytes, which is not what the headers say")
        return stream
    if not isinstance(stream, httpx.SyncByteStream):
        raise h11.LocalProtocolError("the request's stream is not for synchronous use")
    if chunked:
        return stream
    if length is not None:
        return StreamBody(stream, int(length))
    # Sent without either header, a body would be taken for the next request.
    if any(stream):
        raise h11.LocalProtocolError("the request has a body, but neither Content-Length nor Transfer-Encoding")
    return StreamBody((), 0)


def _raise(
    error: Exception, phase: Phase, origin: Origin, request: httpx.Request, hide: Callable[[str], str]
) -> NoReturn:
    """The most specific class of httpx for what happened in `phase`, saying where and when."""
    if phase is Phase.BODY:
        raise error
    if isinstance(error, h11.ProtocolError):
        # It quotes what the server sent, and its frames hold that: a server may send back what it got.
        error.args = (hide(str(error)),)
        error.__traceback__ = None
    kind: type[httpx.TransportError]
    if isinstance(error, Stalled):
        kind, what = _CLOCKS[phase], str(error) or "timed out"
    elif isinstance(error, h11.LocalProtocolError):
        kind, what = httpx.LocalProtocolError, str(error)
    elif isinstance(error, h11.ProtocolError):
        kind, what = httpx.RemoteProtocolError, str(error)
    else:
        kind, what = _FAILURES[phase], str(error) or type(error).__name__
    raise kind(f"{origin}: {what} while {phase.value}", request=request) from error
