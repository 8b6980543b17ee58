"""One request as plain values, and its answer. fastmpu's own transport takes and gives them as they are; any other gets
a request of httpx's, and gives an answer of httpx's.

For a small object, making and taking apart httpx's objects would be a sixth of all that is done in Python
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx

from .._transport import (
    Answer,
    Body,
    BodyStream,
    Broken,
    Exchange,
    Limits,
    WireRequest,
    ZeroCopyTransport,
    as_httpx,
    as_response,
    origin_of,
)
from .._transport import Origin as ConnectedTo
from .cluster_map import Origin
from .secret import Secret
from .timeouts import Timeouts

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Request:
    """One try. `fields` has no token: that comes with `send`. `length` of `body`, in bytes."""

    origin: Origin
    method: str
    target: bytes
    fields: Fields
    body: Body
    length: int
    timeouts: Timeouts
    exchange: Exchange
    cancel: Any = None
    fenced: bool = False
    """It is an attempt whose end matters: `fence` and `progress` of the timeouts hold."""

    def send(self, transport: httpx.BaseTransport, token: Secret | None) -> Reply:
        """Raises what the transport raises, which is httpx's, `Cancelled`, and what a body raises."""
        if type(transport) is ZeroCopyTransport:
            return self._by_wire(transport, token)
        # What another transport has sent is not known, and H1 forgives no wrong guess.
        if not getattr(transport, "keeps_records", False):
            self.exchange.head_sent = True
        request = self.as_httpx()
        if token is not None:
            token.authorize(request.headers)
        try:
            response = transport.handle_request(request)
        finally:
            if token is not None:
                # Errors and answers keep their request, and a pickled one would take the token along.
                request.headers.pop("Authorization", None)
        response.request = request
        return Reply(self, response.status_code, response.headers.raw, response=response)

    def _by_wire(self, transport: ZeroCopyTransport, token: Secret | None) -> Reply:
        timeouts = self.timeouts
        limits = Limits(
            timeouts.connect,
            timeouts.write,
            timeouts.for_answer(self.length),
            timeouts.fence if self.fenced else 0.0,
            self.cancel,
            timeouts.progress if self.fenced else None,
        )
        try:
            answer = transport.wire.send(
                WireRequest(
                    _connected_to(self.origin),
                    self.method,
                    self.target,
                    self.fields if token is None else [*self.fields, token.field()],
                    self.body,
                ),
                limits,
                self.exchange,
            )
        except Broken as broken:
            raise as_httpx(broken, self.as_httpx()) from broken.__cause__
        return Reply(self, answer.head.status, answer.head.fields, answer=answer)

    def as_httpx(self) -> httpx.Request:
        extensions: dict[str, Any] = {
            "target": self.target,
            "timeout": self.timeouts.for_body(self.length),
            "exchange": self.exchange,
        }
        if self.cancel is not None:
            extensions["cancel"] = self.cancel
        if self.fenced:
            extensions |= {"fence": self.timeouts.fence, "progress": self.timeouts.progress}
        return httpx.Request(
            self.method, _url(self.origin), headers=self.fields, stream=BodyStream(self.body), extensions=extensions
        )


class Reply:
    """An answer, of which the head is there. Read it, or close it. `fields` as they came."""

    __slots__ = ("_answer", "_content", "_request", "_response", "fields", "status")

    def __init__(
        self,
        request: Request,
        status: int,
        fields: Fields,
        *,
        answer: Answer | None = None,
        response: httpx.Response | None = None,
    ):
        self.status = status
        self.fields = fields
        self._request = request
        self._answer = answer
        self._response = response
        self._content = b""

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"

    @property
    def headers(self) -> httpx.Headers:
        return httpx.Headers(self.fields)

    def field(self, name: bytes) -> str:
        """The first of that name, which is in lower case; "" for none."""
        return next((value.decode("latin-1") for key, value in self.fields if key.lower() == name), "")

    @property
    def redirects(self) -> bool:
        return 300 <= self.status < 400

    @property
    def content(self) -> bytes | None:
        """The body, if it came along with the head; then there is no more to read."""
        if self._answer is not None:
            return self._answer.content
        response = self._response
        return response.content if response is not None and response.is_stream_consumed else None

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes, once. Raises as `Request.send` does. Close the reply afterwards, whatever happens."""
        if self._answer is None:
            assert self._response is not None
            assert isinstance(self._response.stream, httpx.SyncByteStream)
            yield from self._response.stream  # not by httpx's iterators, whose frames hold pieces when one fails
            return
        try:
            yield from self._answer.read()
        except Broken as broken:
            raise as_httpx(broken, self._request.as_httpx()) from broken.__cause__

    def close(self) -> None:
        """Twice is fine."""
        if self._answer is not None:
            self._answer.close()
        elif self._response is not None and not isinstance(self._response.stream, httpx.ByteStream):
            self._response.close()  # the connection of the others is free already

    def keep(self, content: bytes) -> None:
        """The body, as it was read."""
        self._content = content

    def as_httpx(self) -> httpx.Response:
        """For whoever asked for it by the public face."""
        if self._response is not None:
            return self._response
        assert self._answer is not None
        response = as_response(self._answer.head, httpx.ByteStream(self._content))
        response.request = self._request.as_httpx()
        return response


@lru_cache(maxsize=1024)
def _url(origin: Origin) -> httpx.URL:
    """Parsed once: for each request it would be a tenth of all that a part costs in Python."""
    return httpx.URL(str(origin))


@lru_cache(maxsize=1024)
def _connected_to(origin: Origin) -> ConnectedTo:
    return origin_of(_url(origin))
