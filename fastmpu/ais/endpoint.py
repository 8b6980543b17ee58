"""One cluster, reached through its proxy: token, redirects, and one try per request. Nothing is ever sent again in
here.

Used by any number of threads. Shared state: the cluster map, behind `_lock`, which is never held while a request is
under way, so that two threads may fetch the map at once; both get a good one. Everything else is fixed at construction.

A redirect gives us an authority and the marker `pid`, `utm`, and nothing else: its path may be mangled (protocol 1.2).
The body of a request that has one goes to targets only; the proxy is asked with `Content-Length: 0` (protocol 1.4).
"""

from __future__ import annotations

import os
import re
import threading
import urllib.parse
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NoReturn

import httpx

from .._transport import Body, BufferBody, Exchange, ShortBody, WithheldBody, ZeroCopyTransport
from .._transport import Cancelled as TransportCancelled
from .._version import __version__
from ..errors import (
    AuthError,
    Cancelled,
    CertificateError,
    ClusterError,
    ConnectFailedError,
    FastMPUError,
    ForkError,
    NotAIStoreError,
    RateLimitedError,
    RedirectRefusedError,
    ResponseTimeoutError,
    SourceChangedError,
    SourceError,
    TransportError,
    UnavailableError,
    UsageError,
)
from . import messages
from .cluster_map import ClusterMap, Origin
from .credentials import Credentials
from .messages import Message
from .request import Reply, Request
from .responses import MAX_BODY, error_of, json_of, read_body
from .secret import Secret
from .timeouts import Timeouts
from .tls import NOWHERE, Elsewhere, about_certificates, explain

USER_AGENT: Final = f"fastmpu/{__version__}"
# Of a redirect's query: the marker (protocol 1.3), and a signature where the cluster signs (protocol 1.5). The rest of
# it, as `uploadId` or `partNumber`, would change what is stored.
_MARKER: Final = ("pid", "utm")
_SIGNATURE: Final = ("vpams", "x", "u")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]+")
_FIELD_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True)
class Node:
    """A target as a redirect names it. The marker serves any number of requests of one object (protocol 1.3); where it
    is `signed`, only those of the same method and body length (protocol 1.5).
    """

    origin: Origin
    marker: str
    signed: bool = False


def _check_fields(message: Message) -> None:
    """Before the first byte: a line break in a value would begin a header of somebody else's."""
    for name, value in message.headers.items():
        if not _FIELD_VALUE.fullmatch(value):
            raise UsageError(f"cannot {message.about}: {name}: {value!r} cannot stand in a header")


class Endpoint:
    """Sends messages to a cluster. Closes its transport with `close()`."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport,
        credentials: Credentials,
        timeouts: Timeouts,
        *,
        verified: bool = True,
        elsewhere: Elsewhere = NOWHERE,
    ):
        self.origin = Origin.of(url)
        self.timeouts = timeouts
        self.elsewhere = elsewhere
        self._transport = transport
        self._credentials = credentials
        self._verified = verified
        self._signs = False  # once a redirect came signed, all do; written by any thread, only ever to True
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._map: ClusterMap | None = None
        self._map_content = b""  # of a large cluster, reading it costs more than asking for it

    def __repr__(self) -> str:
        token = ", token" if self._credentials else ""
        return f"<Endpoint {self.origin}{token}{'' if self._verified else ', certificates NOT verified'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client, and what was made by it, does not pickle: it has connections and maybe a token; "
            "make a new one in the other process"
        )

    @property
    def transport(self) -> httpx.BaseTransport:
        """What sends, unless a message is given another one. It stays this endpoint's."""
        return self._transport

    def close(self) -> None:
        """In a forked child nothing: what is there is the parent's, locks that nobody will release included."""
        if os.getpid() == self._process:
            self._transport.close()

    def expect(self, connections: int) -> None:
        """So many may be in use at once: they are kept between requests, if the transport is fastmpu's own."""
        if isinstance(self._transport, ZeroCopyTransport):
            self._transport.pool.expect(connections)

    @property
    def takes_turns(self) -> bool:
        """While one request waits, others may go on in the same thread: only fastmpu's own transport can."""
        return isinstance(self._transport, ZeroCopyTransport) and self._transport.takes_turns

    def drop_idle(self) -> None:
        """Requests from here on use no connection that is idle now, if the transport is fastmpu's own."""
        if isinstance(self._transport, ZeroCopyTransport):
            self._transport.pool.drop_idle()

    def check_process(self) -> None:
        """ForkError in a child of the process that made this: both would write to the same connections."""
        if os.getpid() != self._process:
            raise ForkError(
                f"this client was made in process {self._process} and is used in {os.getpid()}, which was forked from "
                "it: make a new client there"
            )

    def cluster_map(self, *, fresh: bool = False, cancel: Any = None) -> ClusterMap:
        """The map, fetched once. Fetching it also proves that the endpoint is an AIStore, before anything is stored.
        `cancel` is the transport's."""
        self.check_process()
        with self._lock:
            known = self._map
        if known is not None and not fresh:
            return known
        message = messages.cluster_map(str(self.origin))
        response = self._send(self.origin, message, message.content, cancel=cancel)
        if response.status != 200:
            raise self._without_map(message, response)
        content = self._body(response, limit=64 << 20)
        with self._lock:
            if content == self._map_content and self._map is not None:
                return self._map
        fetched = ClusterMap.parse(json_of(message, content), str(self.origin))
        with self._lock:
            self._map, self._map_content = fetched, content
        return fetched

    def _without_map(self, message: Message, response: Reply) -> FastMPUError:
        """Every AIStore serves its map, and signs its refusals: a "no" of another's is no AIStore's."""
        error = self._error(message, response)
        may_pass = (AuthError, RateLimitedError, UnavailableError)  # a gateway before an AIStore may answer so, too
        if isinstance(error, ClusterError) and not error.node and not isinstance(error, may_pass):
            return NotAIStoreError(f"{error}; is the endpoint an AIStore proxy?")
        return error

    # --- requests -----------------------------------------------------------------------------------------------------

    def ask(self, message: Message, *, limit: int = 1 << 20) -> tuple[Reply, bytes]:
        """A request through the proxy, followed to the target once; the answer is 2xx, else its error is raised."""
        response = self.open(message)
        return response, self._body(response, limit)

    def open(self, message: Message) -> Reply:
        """Like `ask`, with the body of the answer still to be read; whoever calls closes the response."""
        _check_fields(message)
        self.cluster_map()
        response = self._send(self.origin, message, message.content)
        if response.redirects:
            node = self._node_of(message, response)
            response = self._send(node.origin, message, message.content, node.marker)
        return self._checked(message, response)

    def locate(self, message: Message, length: int = 0, *, signed: bool = False) -> Node:
        """The target for a message whose body must not go to the proxy: asked with `Content-Length: 0` (protocol 1.4).

        Where redirects are signed, and a body of `length` bytes is to follow, the proxy is asked with that length, and
        the body is withheld: a signature holds for one length (protocol 1.5). `signed` says that they are; else the
        first redirect tells.

        The caller must not send `message` for a part that is stored already: at a target it would be an empty part,
        which unlinks a stored one (protocol H1). The cluster map has shown before that this is an AIStore, whose
        proxies store nothing and whose targets refuse what was not redirected.
        """
        _check_fields(message)
        self.cluster_map()
        signed = signed or self._signs
        response = self._ask_where(message, length if signed else 0)
        if response.redirects:
            node = self._node_of(message, response)
            self._signs = self._signs or node.signed
            return self.locate(message, length, signed=True) if node.signed and not signed and length else node
        self._checked(message, response).close()
        raise NotAIStoreError(f"cannot {message.about}: {self.origin} answered a PUT itself instead of naming a target")

    def _ask_where(self, message: Message, length: int) -> Reply:
        if not length:
            return self._send(self.origin, message, b"")
        asking = replace(message, headers={**message.headers, "Expect": "100-continue"})
        return self._send(self.origin, asking, WithheldBody(length), length=length)

    def send(
        self,
        node: Node,
        message: Message,
        body: Body,
        length: int,
        *,
        exchange: Exchange | None = None,
        cancel: Any = None,
        transport: httpx.BaseTransport | None = None,
    ) -> Reply:
        """One body straight to a target, uncopied. Returns the answer, read; raises its error unless it is 2xx.

        `transport` sends it instead of the endpoint's own; whoever gives it closes it."""
        sent = self._send(node.origin, message, body, node.marker, length, transport, exchange, cancel, fenced=True)
        response = self._checked(message, sent)
        if read_body(response):
            raise NotAIStoreError(
                f"cannot {message.about}: the answer is {response.status} with a body; AIStore sends none"
            )
        return response

    # --- one try ------------------------------------------------------------------------------------------------------

    def _send(
        self,
        origin: Origin,
        message: Message,
        body: bytes | Body,
        marker: str = "",
        length: int | None = None,
        transport: httpx.BaseTransport | None = None,
        exchange: Exchange | None = None,
        cancel: Any = None,
        fenced: bool = False,
    ) -> Reply:
        """One try; a second one after a 401 of AIStore's, if there is another token by then. That is safe for all that
        is sent here: an answered refusal has touched nothing."""
        self.check_process()
        request = self._request(origin, message, body, marker, length, exchange, cancel, fenced)
        token = self._credentials.current()
        transport = transport or self._transport
        response = self._try(message, request, token, transport)
        if response.status != 401:
            return response
        error = self._error(message, response)
        fresh = self._credentials.renewed(token) if isinstance(error, AuthError) and error.node else token
        if fresh is token:
            raise error
        request.exchange.clear()
        response = self._try(message, request, fresh, transport)
        if response.status == 401:
            raise self._error(message, response)
        return response

    def _request(
        self,
        origin: Origin,
        message: Message,
        body: bytes | Body,
        marker: str,
        length: int | None,
        exchange: Exchange | None,
        cancel: Any,
        fenced: bool,
    ) -> Request:
        if length is None:
            assert isinstance(body, bytes)
            length = len(body)
        fields = [*_first_fields(origin)]
        if length or message.method in ("PUT", "POST"):
            fields.append((b"Content-Length", b"%d" % length))
        fields += [(name.encode("ascii"), value.encode("ascii")) for name, value in message.headers.items()]
        target = message.target
        if marker:
            target += ("&" if message.query else "?") + marker
        return Request(
            origin,
            message.method,
            target.encode("ascii"),
            fields,
            BufferBody(body) if isinstance(body, bytes) else body,
            length,
            self.timeouts,
            exchange or Exchange(),
            cancel,
            fenced,
        )

    def _try(self, message: Message, request: Request, token: Secret | None, transport: httpx.BaseTransport) -> Reply:
        exchange = request.exchange
        try:
            return request.send(transport, token)
        except TransportCancelled as error:
            raise Cancelled(f"cannot {message.about}: {error}") from error
        except ShortBody as error:
            raise SourceChangedError(f"cannot {message.about}: {error}") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            exchange.head_sent = False
            kind = CertificateError if about_certificates(error) else ConnectFailedError
            raise kind(f"cannot {message.about}: {error}{explain(error)}") from error
        except httpx.TimeoutException as error:
            sent = exchange.head_sent
            raise ResponseTimeoutError(f"cannot {message.about}: {error}", sent=sent) from error
        except httpx.TransportError as error:
            # Of TLS 1.3: our handshake was over, the peer's ends here. That of a peer that has answered before was over
            # then; what it complains of now is not known, nor what it has processed.
            if about_certificates(error) and not exchange.reused:
                exchange.head_sent = False
                raise CertificateError(f"cannot {message.about}: {error}{explain(error)}") from error
            sent = exchange.head_sent
            raise TransportError(f"cannot {message.about}: {error}{explain(error)}", sent=sent) from error
        except FastMPUError:
            raise
        except OSError as error:  # the network's are httpx's by now: this one is the file's
            raise SourceError(error.errno, f"cannot {message.about}: the source cannot be read: {error}") from error

    def _body(self, response: Reply, limit: int = MAX_BODY) -> bytes:
        """An answer's body, without the token where something sent it back: from here on errors may quote it."""
        return self._credentials.hide_bytes(read_body(response, limit))

    def _error(self, message: Message, response: Reply) -> FastMPUError:
        return error_of(message, response.status, response.headers, self._body(response), self._credentials.hide)

    def _checked(self, message: Message, response: Reply) -> Reply:
        if 200 <= response.status < 300:
            return response
        status = response.status
        if 300 <= status < 400:
            read_body(response)
            raise RedirectRefusedError(
                f"cannot {message.about}: an unexpected {status} answer; AIStore redirects once, from a proxy"
            )
        raise self._error(message, response)

    def _node_of(self, message: Message, response: Reply) -> Node:
        """Where a redirect leads, if that is a member of the cluster."""
        status, location = response.status, self._credentials.hide(response.field(b"location"))
        read_body(response)
        if status != (301 if message.method == "GET" else 307):
            raise RedirectRefusedError(
                f"cannot {message.about}: a {status} redirect, which AIStore does not use for {message.method}"
            )
        # Latin-1 in, UTF-8 out: names stand raw in there; only the authority and the marker are looked at.
        address, _, rest = location.partition("#")[0].partition("?")
        scheme, _, path = address.partition("://")
        query = {key: value for key, _, value in (item.partition("=") for item in rest.split("&"))}
        try:
            origin = _origin(f"{scheme}://{path.partition('/')[0]}")
            marker = "&".join(f"{key}={_as_sent(query[key])}" for key in _MARKER)
        except (ValueError, KeyError):
            raise RedirectRefusedError(
                f"cannot {message.about}: a redirect without an address, pid or utm; is {self.origin} an AIStore proxy?"
            ) from None
        if origin.scheme != self.origin.scheme:
            raise RedirectRefusedError(f"cannot {message.about}: redirected from {self.origin.scheme} to {origin}")
        if origin not in self.cluster_map().members and origin not in self.cluster_map(fresh=True).members:
            raise RedirectRefusedError(
                f"cannot {message.about}: redirected to {origin}, which is not in the cluster map"
            )
        signature = [f"&{key}={_as_sent(query[key])}" for key in _SIGNATURE if query.get(key)]
        return Node(origin, marker + "".join(signature), bool(query.get("u")))


def _as_sent(value: str) -> str:
    """A value of a redirect's query as it goes into one of ours; ValueError for none."""
    if _UNRESERVED.fullmatch(value):
        return value
    if not value:
        raise ValueError("no value")
    return urllib.parse.quote_plus(urllib.parse.unquote_plus(value))


@lru_cache(maxsize=1024)
def _first_fields(origin: Origin) -> tuple[tuple[bytes, bytes], ...]:
    """What each request to there begins with."""
    authority = str(origin).partition("//")[2]
    return (b"Host", authority.encode()), (b"User-Agent", USER_AGENT.encode()), (b"Accept-Encoding", b"identity")


@lru_cache(maxsize=1024)
def _origin(url: str) -> Origin:
    """Of a redirect's address: a cluster has few."""
    return Origin.of(url)
