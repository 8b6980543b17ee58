"""`Wire`: requests and answers over a pool of connections, as plain values. Whoever speaks httpx comes in by
zero_copy.py; worker processes come in here, since importing httpx is most of what starting one would cost.

Threads: any number, and no locks here. All that is shared is the pool. An Answer, and the connection below it, belongs
to the thread that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic

import h11

from .body import Body, StreamBody
from .connect import PORTS, NoTls, Origin
from .connection import Connection
from .exchange import Exchange, Limits, Phase, Stalled
from .head import AnswerHead
from .plain import names_of
from .pool import ConnectionPool
from .request_head import RequestHead, write_head
from .sealed import SECRET_NAMES, SealedFields


class WireRequest:
    """What is to be sent. `target`: as it goes out. A body that is no `Body` comes with its length, or its
    Transfer-Encoding, among the fields."""

    __slots__ = ("body", "fields", "method", "origin", "target")

    def __init__(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        fields: list[tuple[bytes, bytes]],
        body: Body | Iterable[bytes],
    ):
        self.origin = origin
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<WireRequest {self.method} {self.origin}>"  # the fields may have a token


class Broken(Exception):
    """There is no answer, or not all of it. Its cause says why: an OSError, `Stalled`, one of h11's errors, `NoTls`.
    `phase`: what was being done; None: nothing was, since the request cannot be sent."""

    def __init__(self, origin: str, phase: Phase | None, words: str):
        super().__init__(origin, phase, words)

    @property
    def phase(self) -> Phase | None:
        phase: Phase | None = self.args[1]  # kept by whatever keeps an exception
        return phase

    def __str__(self) -> str:
        origin, phase, words = self.args
        return f"{origin}: {words}" if phase is None else f"{origin}: {words} while {phase.value}"


class Answer:
    """A final answer. Read it to its end, or close it: then its connection may serve another request, or ends."""

    __slots__ = ("_connection", "_pool", "content", "head")

    def __init__(self, head: AnswerHead, content: bytes | None, pool: ConnectionPool, connection: Connection):
        self.head = head
        self.content = content
        """The body, if it came along with the head; then there is no connection to wait for, or to close."""
        self._pool = pool
        self._connection = connection if content is None else None

    @property
    def closed(self) -> bool:
        return self._connection is None

    def read(self) -> Iterator[bytes]:
        """The body as it comes, once. Raises `Broken`, `Cancelled`."""
        if self.content is not None:
            yield self.content
            return
        connection = self._connection
        assert connection is not None, "the answer is closed, or was read"
        try:
            yield from connection.read_body()
        except (OSError, Stalled, h11.ProtocolError) as error:
            raise _broken(error, connection.phase, connection.origin, connection.hide) from error
        finally:
            self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)


class Wire:
    """Sends requests. The pool stays the caller's."""

    def __init__(self, pool: ConnectionPool):
        self.pool = pool

    def send(self, request: WireRequest, limits: Limits, record: Exchange) -> Answer:
        """Sends, and waits for the head of the answer. Raises `Broken`, `Cancelled`, and what a body raises."""
        record.began = monotonic()
        origin = request.origin
        try:
            sealed = SealedFields(request.fields)
            head, body = _prepare(request)
        except h11.LocalProtocolError as error:
            error.__traceback__ = None  # h11's frames hold events half made, which cannot even be shown
            raise Broken(str(origin), None, str(error)) from error
        try:
            connection = self.pool.acquire(origin, limits.connect, limits.cancel)
        except NoTls as error:
            raise Broken(str(origin), None, str(error)) from error
        except (OSError, Stalled) as error:
            raise _broken(error, Phase.CONNECT, origin, str) from error
        done = False
        try:
            answer = connection.exchange(head, body, limits, record, sealed)
            content = connection.body_at_hand()
            done = True
        except (OSError, Stalled, h11.ProtocolError) as error:
            if connection.phase is Phase.BODY:
                raise
            raise _broken(error, connection.phase, origin, connection.hide) from error
        finally:
            if not done:
                connection.close()
                self.pool.release(connection)
        if content is not None:
            self.pool.release(connection)
        return Answer(answer, content, self.pool, connection)


def _prepare(request: WireRequest) -> tuple[RequestHead, Body | Iterable[bytes]]:
    """The head, with what is missing added and without what is secret, and the body. Raises h11.LocalProtocolError;
    nothing was sent then."""
    told = names_of(request.fields)
    names = told.keys
    # Bound without what is secret: an error's frames are shown.
    fields = [field for field, key in zip(request.fields, names, strict=True) if key not in SECRET_NAMES]
    lengths = [request.fields[place][1] for place in told.lengths]
    if request.method == "CONNECT" or b"upgrade" in names:
        raise h11.LocalProtocolError("this transport does not change protocols")
    if len(lengths) > 1 or (lengths and b"transfer-encoding" in names):
        raise h11.LocalProtocolError("a request has one Content-Length or one Transfer-Encoding, not both")
    if b"host" not in names:
        fields.insert(0, (b"Host", _host(request.origin)))
    if b"accept-encoding" not in names:
        fields.append((b"Accept-Encoding", b"identity"))
    body = _body(request.body, lengths[0] if lengths else None, b"transfer-encoding" in names)
    if isinstance(request.body, Body) and not lengths:
        fields.append((b"Content-Length", b"%d" % request.body.length))
    return write_head(request.method, request.target, fields), body


def _body(body: Body | Iterable[bytes], length: bytes | None, chunked: bool) -> Body | Iterable[bytes]:
    if length is not None and not length.isdigit():
        raise h11.LocalProtocolError(f"Content-Length {length!r} is not a length")
    if isinstance(body, Body):
        if chunked or (length is not None and int(length) != body.length):
            raise h11.LocalProtocolError(f"the body has {body.length} bytes, which is not what the headers say")
        return body
    if chunked:
        return body
    if length is not None:
        return StreamBody(body, int(length))
    # Sent without either header, a body would be taken for the next request.
    if any(body):
        raise h11.LocalProtocolError("the request has a body, but neither Content-Length nor Transfer-Encoding")
    return StreamBody((), 0)


def _host(origin: Origin) -> bytes:
    """As in the address, without the scheme's own port (RFC 9110, section 7.2)."""
    text = str(origin)
    return (text.rpartition(":")[0] if origin.port == PORTS[origin.scheme] else text).encode()


def _broken(error: Exception, phase: Phase, origin: Origin, hide: Callable[[str], str]) -> Broken:
    if isinstance(error, h11.ProtocolError):
        # It quotes what the server sent, and its frames hold that: a server may send back what it got.
        error.args = (hide(str(error)),)
        error.__traceback__ = None
        return Broken(str(origin), phase, str(error))
    unsaid = "timed out" if isinstance(error, Stalled) else type(error).__name__
    return Broken(str(origin), phase, str(error) or unsaid)
