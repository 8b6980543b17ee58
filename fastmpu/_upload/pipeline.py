"""One upload from plan to proof: the only loop.

Threads: the caller's own is the producer. It owns the plan, the progress, the receipts and every decision: what starts,
when to give up, complete, verify. Workers (see workers.py) each send one part at a time and own that part's reader,
body and attempt. What they find out comes home through `_outcomes`, the only queue. Shared besides: the source (its
module says how), the multipart upload's states (likewise), and `_cancel`, an event that ends attempts early.

A part is a descriptor until a worker reads it; bytes never travel between threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

from .._checksum import combine_all, new_checksum
from .._plan import PartRange, Plan
from .._source import HASH_WINDOW, Source
from .._transport import Exchange
from ..ais import MultipartUpload, Object
from ..errors import (
    Cancelled,
    ClusterError,
    FastMPUError,
    PartError,
    SourceChangedError,
    UploadError,
)
from .config import UploadOptions
from .part_body import PartBody
from .progress import OnProgress, ProgressMeter
from .receipt import PartReceipt, Receipt
from .verify import Expected, verify
from .workers import executor

T = TypeVar("T")

# What is computed over each part while it is sent, by the option `checksum`. CRC32C is the one that combines.
PART_CHECKSUMS = {"auto": ("crc32c",), "crc32c": ("crc32c",), "xxhash": ("crc32c", "xxhash"), "none": ()}
# What a plain PUT is checked with, and the other one, for when the cluster skipped the first (see `_put_whole`).
PUT_CHECKSUMS = {"auto": ("crc32c", "xxhash"), "crc32c": ("crc32c", "xxhash"), "xxhash": ("xxhash", "crc32c")}


class Upload:
    """`source` to `target`, as planned. `run()` once."""

    def __init__(
        self,
        source: Source,
        target: Object,
        plan: Plan,
        options: UploadOptions,
        on_progress: OnProgress | None,
    ):
        self._source = source
        self._target = target
        self._plan = plan
        self._options = options
        self._cancel = threading.Event()
        self._outcomes: SimpleQueue[Future[PartReceipt]] = SimpleQueue()
        self._running: dict[Future[PartReceipt], PartTask] = {}
        self._whole = Exchange()  # of a plain PUT
        self._meter = ProgressMeter(plan.size, on_progress, self._under_way)

    def run(self) -> Receipt:
        began = time.monotonic()
        self._meter.tick()
        upload_id = ""
        parts: tuple[PartReceipt, ...] = ()
        if self._plan.multipart:
            upload_id, parts, expected = self._upload_parts()
            attempts = sum(part.attempts for part in parts)
        else:
            attempts, expected = self._put_whole()
            self._meter.acknowledged(self._plan.size)
        self._meter.enter("verify")
        verified = verify(self._target, expected, self._options.verify)
        self._meter.enter("done")
        return Receipt(
            uri=self._target.uri,
            source=self._source.name,
            size=self._plan.size,
            checksum=expected.checksum,
            verified=verified,
            seconds=time.monotonic() - began,
            upload_id=upload_id,
            part_size=self._plan.part_size,
            parts=parts,
            attempts=attempts,
            read=self._source.reading,
            engine=self._options.engine,
            max_concurrency=self._options.max_concurrency,
        )

    # --- in parts -----------------------------------------------------------------------------------------------------

    def _upload_parts(self) -> tuple[str, tuple[PartReceipt, ...], Expected]:
        mpu = self._target.multipart_upload().create()
        assert mpu.upload_id is not None
        try:
            parts = self._send_parts(mpu)
            self._source.check()
            self._meter.enter("complete")
        except BaseException as error:
            self._give_up(mpu, error)
            raise
        crc = combine_all((int(part.checksums["crc32c"], 16), part.length) for part in parts if part.checksums)
        checksum = f"crc32c:{crc:08x}" if self._options.checksum != "none" else ""
        expected = Expected(self._plan.size, checksum, mpu.upload_id, in_parts=True)
        self._complete(mpu, expected)
        return mpu.upload_id, parts, expected

    def _send_parts(self, mpu: MultipartUpload) -> tuple[PartReceipt, ...]:
        waiting = deque(self._plan.send_order())
        done: dict[int, PartReceipt] = {}
        # Inline, the thread that sends is the one that may tell progress.
        on_piece = self._meter.tick if self._options.engine == "inline" else None
        workers = executor(self._options.engine, min(self._options.max_concurrency, len(waiting)))
        try:
            while waiting or self._running:
                # Part 1 only after another part is stored: then the cluster's checksum of the whole is CRC32C, whatever
                # the bucket's type (protocol 5.3), and HEAD proves the object.
                while waiting and len(self._running) < self._options.max_concurrency and (waiting[0] != 1 or done):
                    part = self._plan.parts[waiting.popleft() - 1]
                    task = PartTask(self._source, mpu, part, self._options, self._cancel, on_piece)
                    future = workers.submit(task.run)
                    self._running[future] = task
                    future.add_done_callback(self._outcomes.put)
                future = self._next_outcome()
                receipt = future.result()
                del self._running[future]
                done[receipt.number] = receipt
                self._meter.acknowledged(receipt.length)
        except BaseException:
            self._cancel.set()
            raise
        finally:
            # Every attempt has ended when this returns: nothing is aborted or completed before.
            workers.shutdown(wait=True, cancel_futures=True)
        return tuple(done[number] for number in sorted(done))

    def _next_outcome(self) -> Future[PartReceipt]:
        while True:
            try:
                return self._outcomes.get(timeout=self._meter.interval)
            except Empty:
                self._meter.tick()

    def _under_way(self) -> int:
        return self._whole.handed + sum(task.exchange.handed for task in list(self._running.values()))

    def _complete(self, mpu: MultipartUpload, expected: Expected) -> None:
        """Once. If its answer is missing, the object itself is asked, and never `complete` again (protocol H5)."""
        try:
            mpu.complete()
        except FastMPUError as error:
            if mpu.may_abort:  # refused in so many words; nothing of it is under way
                self._give_up(mpu, error)
                raise UploadError(
                    f"{self._target.uri}: the cluster refused to complete upload {mpu.upload_id}: {error}",
                    upload_id=mpu.upload_id,
                    object_name=self._target.uri,
                ) from error
            if not expected.checksum:
                raise self._unsure(mpu, "without a checksum nothing can tell; look at the object") from error
            try:
                verify(self._target, expected, "head")
            except FastMPUError as doubt:
                raise self._unsure(mpu, str(doubt)) from error

    def _unsure(self, mpu: MultipartUpload, why: str) -> UploadError:
        return UploadError(
            f"{self._target.uri}: complete of upload {mpu.upload_id} was not answered, and the object does not prove "
            f"that it was done: {why}. Do not complete it again; upload anew",
            upload_id=mpu.upload_id,
            object_name=self._target.uri,
        )

    def _give_up(self, mpu: MultipartUpload, error: BaseException) -> None:
        """Abort, so that no parts are left; the error that brought us here stays the one that is raised."""
        if self._options.on_error == "keep":
            return
        try:
            mpu.abort()
        except FastMPUError as failure:
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"upload {mpu.upload_id} of {self._target.uri} could not be aborted: {failure}")

    # --- whole --------------------------------------------------------------------------------------------------------

    def _put_whole(self) -> tuple[int, Expected]:
        """One PUT, which the cluster checks before it stores. If it already has an object of that checksum it stores
        and checks nothing (protocol 4.1), and a damaged object would stay; so then the other checksum is sent.
        """
        whole = PartRange(1, 0, self._plan.size)
        attempts = 0
        expected = Expected(self._plan.size, "", "", in_parts=False)
        for kind in PUT_CHECKSUMS.get(self._options.checksum, ("",)):
            checksum = (kind, self._hash_whole(kind)) if kind else None
            if checksum and not expected.checksum:
                expected = Expected(self._plan.size, ":".join(checksum), "", in_parts=False)

            def put(checksum: tuple[str, str] | None = checksum) -> bool:
                nonlocal attempts
                attempts += 1
                self._whole = Exchange()
                body = PartBody(self._source, whole, on_piece=self._meter.tick)
                response = self._target.put_body(body, checksum=checksum, exchange=self._whole, cancel=self._cancel)
                return any(name.startswith("ais-") for name in response.headers)

            stored = with_retries(put, self._source, self._options, self._cancel)
            self._source.check()
            if stored:
                break
        return attempts, expected

    def _hash_whole(self, kind: str) -> str:
        checksum = new_checksum(kind)
        with self._source.open_part(0, self._plan.size) as reader:
            for at in range(0, self._plan.size, HASH_WINDOW):
                reader.feed(at, min(HASH_WINDOW, self._plan.size - at), checksum.update)
        return checksum.hexdigest()


class PartTask:
    """One part, sent by the worker that runs it, again only after the cluster refused it in so many words."""

    def __init__(
        self,
        source: Source,
        mpu: MultipartUpload,
        part: PartRange,
        options: UploadOptions,
        cancel: threading.Event,
        on_piece: Callable[[], object] | None,
    ):
        self._source = source
        self._mpu = mpu
        self._part = part
        self._options = options
        self._cancel = cancel
        self._on_piece = on_piece
        self.exchange = Exchange()

    def run(self) -> PartReceipt:
        if self._cancel.is_set():
            raise Cancelled(f"part {self._part.number} was not started")
        began = time.monotonic()
        body = PartBody(self._source, self._part, PART_CHECKSUMS[self._options.checksum], self._on_piece)
        attempts = 0

        def put() -> None:
            nonlocal attempts
            attempts += 1
            self.exchange = Exchange()
            self._mpu.put_part(self._part.number, body, exchange=self.exchange, cancel=self._cancel)

        try:
            with_retries(put, self._source, self._options, self._cancel)
        except ClusterError as error:
            raise PartError(
                f"part {self._part.number} was refused {attempts} times, the last time: {error}",
                part_number=self._part.number,
                attempts=attempts,
                status=error.status,
                upload_id=self._mpu.upload_id,
                object_name=self._mpu.uri,
            ) from error
        self._source.check()
        seconds = time.monotonic() - began
        return PartReceipt(
            self._part.number, self._part.offset, self._part.length, body.hexdigests(), attempts, seconds
        )


def with_retries(put: Callable[[], T], source: Source, options: UploadOptions, cancel: threading.Event) -> T:
    """The result of `put`, tried again only after an *answered* failure that may pass."""
    attempt = 1
    while True:
        try:
            return put()
        except SourceChangedError:
            source.check()  # a body that fell short: the source can say what has changed
            raise
        except ClusterError as error:
            source.check()  # a checksum may have been refused because the file is another one by now
            delay = options.retry.delay(attempt, error) if error.node else None
            if delay is None:
                raise
            if cancel.wait(delay):
                raise Cancelled("cancelled while waiting for another try") from error
        attempt += 1
