"""One part, sent by whichever worker picks it up, as often as the policy allows.

A task belongs to one worker while it runs; the producer reads `exchange` for progress, and the rest when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .._plan import PartRange
from .._source import Source
from .._transport import Exchange
from ..ais import MultipartUpload
from ..ais.failure import Failure, classify, facts_of
from ..errors import (
    Cancelled,
    ClusterError,
    FastMPUError,
    PartError,
    RateLimitedError,
    SourceChangedError,
    TransportError,
    UnavailableError,
)
from .bandwidth import pace_of
from .cancel import CancelFlag
from .config import UploadOptions
from .hash_range import hash_range
from .part_body import PartBody
from .receipt import PartReceipt
from .resources import Resources
from .stages import StageTimes

if TYPE_CHECKING:
    from .process_transport import ProcessTransport

T = TypeVar("T")

# What is computed over each part while it is sent, by the option `checksum`. CRC32C is the one that combines.
PART_CHECKSUMS = {"auto": ("crc32c",), "crc32c": ("crc32c",), "xxhash": ("crc32c", "xxhash"), "none": ()}


@dataclass(frozen=True)
class Job:
    """What all requests of one try at an upload share. `options` has the engine that runs."""

    source: Source
    options: UploadOptions
    cancel: CancelFlag
    resources: Resources
    processes: ProcessTransport | None = None
    """Sends the parts in the client's stead."""

    def body(
        self,
        part: PartRange,
        checksums: tuple[str, ...] = (),
        on_piece: Callable[[], object] | None = None,
    ) -> PartBody:
        """A part on its way, no faster than the job may go."""
        pace = pace_of(self.resources.bandwidth, self.cancel)
        return PartBody(self.source, part, checksums, on_piece, pace)


class PartTask:
    """`part` of `mpu`. `on_piece` is called between windows, in the worker."""

    def __init__(self, job: Job, mpu: MultipartUpload, part: PartRange, on_piece: Callable[[], object] | None):
        self.part = part
        self.exchange = Exchange()
        self.attempts = 0
        self.bytes_sent = 0
        self.spent = StageTimes()
        self._job = job
        self._mpu = mpu
        self._body = job.body(part, PART_CHECKSUMS[job.options.checksum], on_piece)
        self._made = time.monotonic()
        self._began = 0.0

    def run(self) -> PartReceipt:
        """Send, until it is acknowledged. Raises AmbiguousPartError if that cannot be known."""
        if self._job.cancel.is_set():
            raise Cancelled(f"part {self.part.number} was not started")
        self._began = time.monotonic()
        self.spent.queue = self._began - self._made
        try:
            return self._run()
        finally:
            self.spent.add(self._body.spent)

    def _run(self) -> PartReceipt:
        headers = {}
        if self._job.options.part_checksum == "sha256":
            # The server compares before it records (protocol 5.3); the header goes first, so this reads the part twice.
            began = time.monotonic()
            headers["x-amz-content-sha256"] = self._hash("sha256")
            self.spent.checksum += time.monotonic() - began

        def put() -> None:
            self.attempts += 1
            self.exchange = Exchange()
            try:
                self._mpu.put_part(
                    self.part.number,
                    self._body,
                    headers=headers,
                    exchange=self.exchange,
                    cancel=self._job.cancel,
                    transport=self._job.processes,
                )
            finally:
                self.bytes_sent += self.exchange.handed
                self.attempts += self.exchange.resent  # below us, after a 401: also a reason to look at the part
                self.spent.sent(self.exchange)
                if self._job.resources.trace is not None:
                    self._job.resources.trace.attempt(f"part {self.part.number}", self.exchange, self.attempts)

        try:
            if not self._mpu.located:
                began = time.monotonic()
                with_retries(partial(self._mpu.locate, self.part.number), self._job, repeatable=True)
                self.spent.redirect = time.monotonic() - began
            with_retries(put, self._job, repeatable=False)
        except (ClusterError, TransportError) as error:
            raise PartError(
                f"part {self.part.number} failed after {self.attempts} attempts: {error}",
                part_number=self.part.number,
                attempts=self.attempts,
                status=error.status if isinstance(error, ClusterError) else None,
                **self._mpu.ledger.names(),
            ) from error
        self._job.source.check()
        return self.receipt()

    def _hash(self, kind: str) -> str:
        there = (
            None if self._job.processes is None else self._job.processes.hash_range(self.part, kind, self._job.cancel)
        )
        return there or hash_range(self._job.source, self.part, kind)[kind]

    def receipt(self) -> PartReceipt:
        """After the part was stored, however that became known."""
        return PartReceipt(
            number=self.part.number,
            offset=self.part.offset,
            length=self.part.length,
            checksums=self._body.hexdigests(),
            attempts=self.attempts,
            seconds=time.monotonic() - self._began,
        )


def with_retries(request: Callable[[], T], job: Job, *, repeatable: bool) -> T:
    """The result of `request`, tried again as policy and budget allow: after failures that leave no doubt, and, if it
    is `repeatable` (a plain PUT, a create), also when nobody knows whether it was processed.
    """
    attempt = 1
    while True:
        if job.cancel.is_set():
            raise Cancelled("not started: the upload is being given up")
        job.resources.budget.request()
        try:
            result = request()
        except SourceChangedError:
            job.source.check()  # says more than that the body came up short
            raise
        except (ClusterError, TransportError) as error:
            job.source.check()  # a checksum may have been refused because the file is another one by now
            if isinstance(error, (RateLimitedError, UnavailableError)):
                job.resources.throttle.too_much()
            failure = classify(facts_of(error, of_upload=not repeatable, sent=True))
            if repeatable and failure is Failure.UNKNOWN:
                failure = Failure.PASSING
            delay = job.options.retry.delay(attempt, failure, _retry_after(error))
            if delay is None or not job.resources.budget.spend():
                raise
            if job.cancel.wait(delay):
                raise Cancelled("cancelled while waiting for another try") from error
        else:
            job.resources.throttle.went_well()
            return result
        attempt += 1


def _retry_after(error: FastMPUError) -> float | None:
    return error.retry_after if isinstance(error, ClusterError) else None
