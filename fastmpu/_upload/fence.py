"""When an attempt is over, and what may be sent again.

Only an HTTP answer proves that an attempt is over. The end of a connection does not: a middlebox may have ended our
half while the target still holds the other, and its late end deletes a part that was sent again (protocol H2, H4). So:

- The transport half-closes an attempt without an answer and listens on, bounded (`Timeouts.fence`). Over TLS that is a
  close_notify and a FIN; a peer that answers after it is heard, one that closes at once is not, and counts as silent.
- A part that is still without an answer is *unknown*. Nothing new starts, the other attempts end, then the cluster is
  asked what it has recorded (the gap probe, protocol H8). If it counts all that were acknowledged and all unknown ones,
  those are stored, and the upload goes on. Anything else: start again under a new upload id, where late attempts of the
  old one cannot reach.
- `fence="network"`, which the caller has to ask for: on a network without middleboxes the end of a connection, and a
  second, count as the end of the attempt; parts that the probe shows missing are sent again, and looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ais import MultipartUpload, Object
from ..ais.failure import classify, facts_of
from ..ais.multipart import GapProbe
from ..ais.states import PartEvent
from ..errors import (
    AmbiguousPartError,
    Cancelled,
    ClusterError,
    ConnectFailedError,
    FastMPUError,
    IntegrityError,
    NotAIStoreError,
    ResponseTimeoutError,
    TransportError,
)
from .cancel import CancelFlag
from .part_task import Job
from .receipt import PartReceipt
from .retry import RetryPolicy
from .verify import patiently

PROBE_TRIES = 3  # the probe changes nothing, so it may be repeated
NETWORK_FENCE = 1.0  # seconds after the end of a connection, for the target's handler to end


class StartAgain(Exception):
    """This upload id is of no more use; the object is to be uploaded again under a new one. Never leaves `_upload`.

    `abort`: whether the old upload can be aborted without a race.
    """

    def __init__(self, cause: FastMPUError, *, abort: bool = True):
        super().__init__(str(cause))
        self.cause = cause
        self.abort = abort


def settle(
    mpu: MultipartUpload, unknown: dict[int, AmbiguousPartError], cancel: CancelFlag, fence: str
) -> tuple[list[int], list[int]]:
    """What became of the unknown parts, when no attempt is in flight: (stored, to be sent again), or StartAgain."""
    acknowledged = len(mpu.parts)
    first = next(iter(unknown.values()))
    probe = ask(mpu, cancel)
    if probe is not None and probe.count == acknowledged + len(unknown):
        for number in unknown:
            mpu.ledger.end(number, PartEvent.FOUND_STORED)
        return list(unknown), []
    if probe is not None and probe.count == acknowledged and fence == "network" and _all_ended(unknown):
        cancel.wait(NETWORK_FENCE)
        if ask(mpu, cancel) == probe:
            for number in unknown:
                mpu.ledger.end(number, PartEvent.FOUND_MISSING)
            return [], list(unknown)
    raise StartAgain(first)


def ask(mpu: MultipartUpload, cancel: CancelFlag) -> GapProbe | None:
    """The gap probe, repeated where it got no answer; None if nothing certain can be learned."""
    for attempt in range(PROBE_TRIES):
        try:
            return mpu.probe_gaps()
        except (TransportError, NotAIStoreError, ClusterError):
            if attempt == PROBE_TRIES - 1 or cancel.wait(0.1 * 4**attempt):
                return None
    return None


def complete(mpu: MultipartUpload, job: Job) -> None:
    """One request for all (protocol H5). Only where no byte of it went out, since nobody could be reached, is it sent
    again."""
    attempt = 1
    while True:
        job.resources.budget.request()
        try:
            mpu.complete()
            return
        except TransportError as error:
            delay = job.options.retry.delay(attempt, classify(facts_of(error, of_upload=True, sent=True)))
            if delay is None or not job.resources.budget.spend():
                raise
            if job.cancel.wait(delay):
                raise Cancelled("cancelled while waiting for another try to complete") from error
        attempt += 1


def _all_ended(unknown: dict[int, AmbiguousPartError]) -> bool:
    """Whether each attempt's connection has ended: EOF or reset, not silence, not a gateway's answer."""
    causes = [error.__cause__ for error in unknown.values()]
    return all(isinstance(cause, TransportError) and not isinstance(cause, ResponseTimeoutError) for cause in causes)


def probe_parts(target: Object, parts: Sequence[PartReceipt], upload_id: str, retry: RetryPolicy) -> None:
    """One byte of each part is read back: a lost part is a hole there, which nothing else shows (protocol H11).

    IntegrityError names the first part that is missing. A 404 is a hole, and so is an answer that breaks off again and
    again; a cluster that cannot be asked is none.
    """
    for part in parts:
        # At a part's very first byte a hole is answered 206 and a broken connection; one further it is a clean 404.
        at = part.offset + min(1, part.length - 1)
        try:
            found = patiently(target.get_reader(first=at, last=at).read_all, retry)
        except (ClusterError, TransportError) as error:
            if isinstance(error, (ConnectFailedError, ResponseTimeoutError)) or getattr(error, "status", 404) != 404:
                raise
            raise IntegrityError(
                f"{target.uri}: part {part.number} cannot be read back at byte {at}: {error}",
                expected=f"{part.length} bytes at {part.offset}",
                found="a hole",
                upload_id=upload_id,
                object_name=target.uri,
            ) from error
        if len(found) != 1:
            raise IntegrityError(
                f"{target.uri}: part {part.number}: {len(found)} bytes instead of one at {at}",
                expected="1 byte",
                found=f"{len(found)} bytes",
                upload_id=upload_id,
                object_name=target.uri,
            )
