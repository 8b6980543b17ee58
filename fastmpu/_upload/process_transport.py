"""`ProcessTransport`: a transport for parts' bodies whose requests are made by worker processes and by this one.

What is decided stays here: ledger, retries, fence, throttle. A thread that sends a part waits in `handle_request`, for
a worker or for the network, and gets the same answers and errors, with the same record in the Exchange.

Threads: any number; the pool says how they share its lanes. Whoever made it closes it, when no part is under way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

import httpx

from .._plan import PartRange
from .._source import Source
from .._transport import BodyStream, Broken, CancelFlag, Exchange, as_httpx, as_response, origin_of
from .._transport import Cancelled as TransportCancelled
from ..ais.tls import Tls
from ..errors import Cancelled
from .bandwidth import Bandwidth
from .hash_range import hash_range
from .part_body import PartBody
from .process_messages import Failure, Hash, Outcome, Send, Untold
from .process_pool import ProcessPool, WorkerDied

_TO_WORKER: Final[tuple[str, ...]] = ("timeout", "fence", "progress")


class ProcessTransport(httpx.BaseTransport):
    """Takes requests whose stream is a PartBody over `source`. `here`: the transport for this process's share, which
    stays the caller's. `tls`: of the workers' transports; None for http. `silence`: seconds without a sign of life
    after which a worker is killed. `bandwidth`: the job's, for all of them.

    Raises what ZeroCopyTransport raises, and `WorkerDied` with `head_sent` in the Exchange: nobody knows what the
    target has.
    """

    keeps_records = True

    def __init__(
        self,
        source: Source,
        here: httpx.BaseTransport,
        tls: Tls | None,
        processes: int,
        max_concurrency: int,
        silence: float = math.inf,
        bandwidth: Bandwidth | None = None,
    ):
        self._source = source
        self._here = here
        self.pool = ProcessPool(source, tls, processes, max_concurrency, silence, bandwidth)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, BodyStream)
        body = request.stream.body
        assert isinstance(body, PartBody)
        told: dict[str, Any] = dict(request.extensions)
        limits = {name: told[name] for name in _TO_WORKER if name in told}
        ticket = Send(
            body.part,
            body.names,
            origin_of(request.url),
            request.method,
            told["target"],
            request.headers.raw,
            limits,
        )
        body.digests = None  # what was hashed here belongs to an earlier attempt
        record: Exchange = told["exchange"]
        outcome = self.pool.ask(ticket, record, told.get("cancel"), limits.get("fence") or 0.0)
        if outcome is None:
            try:
                return self._here.handle_request(request)
            finally:
                self.pool.done_here()
        body.digests = outcome.checksums
        body.spent.add(outcome.spent)
        if outcome.head is None:
            assert outcome.failure is not None
            error = outcome.failure.error()
            raise _of_httpx(error, request) from error.__cause__
        return as_response(outcome.head, _Replayed(outcome, request))

    def hash_range(self, part: PartRange, kind: str, cancel: CancelFlag) -> str | None:
        """A checksum of a part, computed by whose turn it is; None if a worker died of it. Raises `Cancelled`."""
        try:
            outcome = self.pool.ask(Hash(part, kind), None, cancel)
        except WorkerDied:
            return None
        except TransportCancelled as error:
            raise Cancelled(f"part {part.number} was not hashed: {error}") from error
        if outcome is None:
            try:
                return hash_range(self._source, part, kind)[kind]
            finally:
                self.pool.done_here()
        if outcome.failure is not None:
            raise outcome.failure.error()
        assert outcome.checksums is not None
        return outcome.checksums[kind]

    def close(self) -> None:
        self.pool.close()

    def __enter__(self) -> ProcessTransport:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ProcessTransport {len(self.pool.pids)} workers>"


class _Replayed(httpx.SyncByteStream):
    """An answer's body as a worker has read it, and the error in which that ended."""

    def __init__(self, outcome: Outcome, request: httpx.Request):
        self._content = outcome.content
        self._failure: Failure | None = outcome.failure
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        if self._content:
            yield self._content
        if self._failure is not None:
            error = self._failure.error()
            raise _of_httpx(error, self._request) from error.__cause__


def _of_httpx(error: BaseException, request: httpx.Request) -> BaseException:
    if isinstance(error, Untold):
        return httpx.ReadError(str(error), request=request)  # nobody takes it for an answer
    return as_httpx(error, request) if isinstance(error, Broken) else error
