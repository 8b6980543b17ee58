"""One cluster, reached through its proxy: token, redirects, and one try per request. Nothing is ever sent again in
here.

Used by any number of threads. Shared state: the cluster map, behind `_lock`, which is never held while a request is
under way, so that two threads may fetch the map at once; both get a good one. Everything else is fixed at construction.

A redirect gives us an authority and the marker `pid`, `utm`, and nothing else: its path may be mangled (protocol 1.2).
The body of a request that has one goes to targets only; the proxy is asked with `Content-Length: 0` (protocol 1.4).
"""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from .._transport import BufferBody, Exchange, ShortBody, ZeroCopyTransport
from .._transport import Cancelled as TransportCancelled
from .._version import __version__
from ..errors import (
    AuthError,
    Cancelled,
    ClusterError,
    ConnectFailedError,
    FastMPUError,
    NotAIStoreError,
    RateLimitedError,
    RedirectRefusedError,
    ResponseTimeoutError,
    SourceChangedError,
    SourceError,
    TransportError,
    UnavailableError,
)
from . import messages
from .cluster_map import ClusterMap, Origin
from .messages import Message
from .responses import error_of, json_of, read_body
from .secret import Secret

USER_AGENT: Final = f"fastmpu/{__version__}"


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `connect`: TCP and TLS. `write`: longest time in which the network takes nothing. `response`: longest
    silence after the request went out. `response_per_gib` is added to `response` for each GiB of the body, since a
    target may still be writing a large part to disk. `fence`: how long an attempt without an answer is half-closed and
    listened to.
    """

    connect: float = 5.0
    write: float = 30.0
    response: float = 60.0
    response_per_gib: float = 60.0
    fence: float = 2.0

    def for_body(self, length: int) -> dict[str, float]:
        """In httpx's own terms."""
        read = self.response + self.response_per_gib * length / (1 << 30)
        return {"connect": self.connect, "write": self.write, "read": read, "pool": self.connect}


@dataclass(frozen=True)
class Node:
    """A target as a redirect names it. The marker serves any number of requests of one object (protocol 1.3)."""

    origin: Origin
    marker: str


class Endpoint:
    """Sends messages to a cluster. Closes its transport with `close()`."""

    def __init__(self, url: str, transport: httpx.BaseTransport, token: Secret | None, timeouts: Timeouts):
        self.origin = Origin.of(url)
        self.timeouts = timeouts
        self._transport = transport
        self._keeps_records = isinstance(transport, ZeroCopyTransport)
        self._token = token
        self._lock = threading.Lock()
        self._map: ClusterMap | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.origin}{', token' if self._token else ''}>"

    def close(self) -> None:
        self._transport.close()

    def cluster_map(self, *, fresh: bool = False) -> ClusterMap:
        """The map, fetched once. Fetching it also proves that the endpoint is an AIStore, before anything is stored."""
        with self._lock:
            known = self._map
        if known is not None and not fresh:
            return known
        message = messages.cluster_map(str(self.origin))
        response = self._send(self.origin, message, message.content)
        body = read_body(response, limit=64 << 20)
        if response.status_code != 200:
            raise self._without_map(message, response.status_code, response.headers, body)
        fetched = ClusterMap.parse(json_of(message, body), str(self.origin))
        with self._lock:
            self._map = fetched
        return fetched

    def _without_map(self, message: Message, status: int, headers: Mapping[str, str], body: bytes) -> FastMPUError:
        """Every AIStore serves its map, and signs its refusals: a "no" of another's is no AIStore's."""
        error = error_of(message, status, headers, body)
        may_pass = (AuthError, RateLimitedError, UnavailableError)  # a gateway before an AIStore may answer so, too
        if isinstance(error, ClusterError) and not error.node and not isinstance(error, may_pass):
            return NotAIStoreError(f"{error}; is the endpoint an AIStore proxy?")
        return error

    # --- requests -----------------------------------------------------------------------------------------------------

    def ask(self, message: Message, *, limit: int = 1 << 20) -> tuple[httpx.Response, bytes]:
        """A request through the proxy, followed to the target once; the answer is 2xx, else its error is raised."""
        response = self.open(message)
        return response, read_body(response, limit)

    def open(self, message: Message) -> httpx.Response:
        """Like `ask`, with the body of the answer still to be read; whoever calls closes the response."""
        self.cluster_map()
        response = self._send(self.origin, message, message.content)
        if response.is_redirect:
            node = self._node_of(message, response)
            response = self._send(node.origin, message, message.content, node.marker)
        return self._checked(message, response)

    def locate(self, message: Message) -> Node:
        """The target for a message whose body must not go to the proxy: asked with `Content-Length: 0` (protocol 1.4).

        The caller must not send `message` for a part that is stored already: at a target it would be an empty part,
        which unlinks a stored one (protocol H1). The cluster map has shown before that this is an AIStore, whose
        proxies store nothing and whose targets refuse what was not redirected.
        """
        self.cluster_map()
        response = self._send(self.origin, message, b"")
        if response.is_redirect:
            return self._node_of(message, response)
        self._checked(message, response).close()
        raise NotAIStoreError(f"cannot {message.about}: {self.origin} answered a PUT itself instead of naming a target")

    def send(
        self,
        node: Node,
        message: Message,
        body: httpx.SyncByteStream,
        length: int,
        *,
        exchange: Exchange | None = None,
        cancel: Any = None,
    ) -> httpx.Response:
        """One body straight to a target, uncopied. Returns the answer, read; raises its error unless it is 2xx."""
        extensions = {"exchange": exchange or Exchange(), "cancel": cancel, "fence": self.timeouts.fence}
        response = self._checked(message, self._send(node.origin, message, body, node.marker, length, extensions))
        if read_body(response):
            raise NotAIStoreError(
                f"cannot {message.about}: the answer is {response.status_code} with a body; AIStore sends none"
            )
        return response

    # --- one try ------------------------------------------------------------------------------------------------------

    def _send(
        self,
        origin: Origin,
        message: Message,
        body: bytes | httpx.SyncByteStream,
        marker: str = "",
        length: int | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        if length is None:
            assert isinstance(body, bytes)
            length = len(body)
        headers = {"Host": str(origin).partition("//")[2], "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if length or message.method in ("PUT", "POST"):
            headers["Content-Length"] = str(length)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        headers.update(message.headers)
        target = message.target
        if marker:
            target += ("&" if message.query else "?") + marker
        exchange = (extensions or {}).get("exchange") or Exchange()
        request = httpx.Request(
            message.method,
            str(origin),
            headers=headers,
            stream=BufferBody(memoryview(body)) if isinstance(body, bytes) else body,
            extensions={
                "target": target.encode("ascii"),
                "timeout": self.timeouts.for_body(length),
                "exchange": exchange,
                **(extensions or {}),
            },
        )
        if not self._keeps_records:  # what another transport has sent is not known, and H1 forgives no wrong guess
            exchange.head_sent = True
        try:
            response = self._transport.handle_request(request)
        except TransportCancelled as error:
            raise Cancelled(f"cannot {message.about}: {error}") from error
        except ShortBody as error:
            raise SourceChangedError(f"cannot {message.about}: {error}") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            exchange.head_sent = False
            raise ConnectFailedError(f"cannot {message.about}: {error}") from error
        except httpx.TimeoutException as error:
            sent = exchange.head_sent
            raise ResponseTimeoutError(f"cannot {message.about}: {error}", sent=sent) from error
        except httpx.TransportError as error:
            raise TransportError(f"cannot {message.about}: {error}", sent=exchange.head_sent) from error
        except FastMPUError:
            raise
        except OSError as error:  # the network's are httpx's by now: this one is the file's
            raise SourceError(error.errno, f"cannot {message.about}: the source cannot be read: {error}") from error
        response.request = request
        return response

    def _checked(self, message: Message, response: httpx.Response) -> httpx.Response:
        if 200 <= response.status_code < 300:
            return response
        status = response.status_code
        body = read_body(response)
        if 300 <= status < 400:
            raise RedirectRefusedError(
                f"cannot {message.about}: an unexpected {status} answer; AIStore redirects once, from a proxy"
            )
        raise error_of(message, status, response.headers, body)

    def _node_of(self, message: Message, response: httpx.Response) -> Node:
        """Where a redirect leads, if that is a member of the cluster."""
        status, location = response.status_code, response.headers.get("location", "")
        read_body(response)
        if status != (301 if message.method == "GET" else 307):
            raise RedirectRefusedError(
                f"cannot {message.about}: a {status} redirect, which AIStore does not use for {message.method}"
            )
        # Latin-1 in, UTF-8 out: names stand raw in there; only the authority and the marker are looked at.
        try:
            origin = Origin.of(location)
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
            marker = urllib.parse.urlencode({key: query[key][-1] for key in ("pid", "utm")})
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
        return Node(origin, marker)
