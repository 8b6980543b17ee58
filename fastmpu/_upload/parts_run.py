"""All parts of one upload id: the only loop.

Threads: the caller's own is the producer. It owns the plan, the progress, the receipts and every decision: what starts,
what is doubtful, when to give up. Workers (see workers.py) each send one part at a time and own that part's reader,
body and attempt. What they find out comes home through `_outcomes`, the only queue. Shared besides: the source and the
upload's ledger (their modules say how), and the job's cancel flag, throttle and budget, which have a lock each.

An upload of an earlier job goes on by its `Recall`: what that job acknowledged is done, and of what it began without
an acknowledgement the gap probe tells how much is stored. If that is neither all nor nothing, the first gap is sent
alone, and the cluster is asked again: whatever lies before a gap is stored, whatever is one is not.

A part is a descriptor until a worker reads it; bytes never travel between threads.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue

from .._plan import Plan
from ..ais import MultipartUpload
from ..ais.states import PartEvent
from ..errors import (
    AmbiguousPartError,
    Cancelled,
    ClusterError,
    PartError,
    ResumeError,
    TransportError,
    UploadError,
    UploadLostError,
)
from .fence import StartAgain, ask, settle
from .job_log import JobLog
from .part_task import PART_CHECKSUMS, Job, PartTask
from .progress import ProgressMeter
from .recall import Recall, stored_before
from .receipt import PartReceipt
from .stages import StageTimes
from .workers import executor


class PartsRun:
    """Sends the parts of `plan` under `mpu`'s upload id. `send()` once."""

    def __init__(
        self, job: Job, plan: Plan, mpu: MultipartUpload, meter: ProgressMeter, log: JobLog, recalled: Recall | None
    ):
        self._job = job
        self._plan = plan
        self._mpu = mpu
        self._meter = meter
        self._log = log
        self._waiting = deque(plan.send_order())
        self._running: dict[Future[PartReceipt], PartTask] = {}
        self._outcomes: SimpleQueue[Future[PartReceipt]] = SimpleQueue()
        self._unknown: dict[int, AmbiguousPartError] = {}
        self._tasks: dict[int, PartTask] = {}  # of the unknown parts
        self._sent_before: dict[int, int] = {}  # attempts at parts that were found missing
        self._done: dict[int, PartReceipt] = {}
        self._doubtful: set[int] = set()  # begun by an earlier job
        self._alone: int | None = None  # the gap that is sent before the cluster is asked again
        self.probes = 0
        self.bytes_sent = 0
        self.spent = StageTimes()
        self.settled: set[int] = set()  # parts whose fate only a gap probe told

        if recalled is not None:
            self._take_over(recalled)

    @property
    def under_way(self) -> int:
        """Bytes of requests in flight that the kernel has taken."""
        return sum(task.exchange.handed for task in list(self._running.values()))

    @property
    def attempts(self) -> int:
        """Requests so far that carried data."""
        ended = sum(part.attempts for part in self._done.values()) + sum(task.attempts for task in self._tasks.values())
        return ended + sum(task.attempts for task in list(self._running.values()))

    def send(self) -> tuple[PartReceipt, ...]:
        """All parts' receipts, in order. When this returns or raises, no attempt is running any more.

        Raises StartAgain if the upload id is of no more use; whatever else stopped a part goes through.
        """
        options = self._job.options
        count = min(options.max_concurrency, len(self._waiting) + len(self._doubtful) or 1)
        self._ask_where()
        workers = executor(options.engine, count, self._job.resources.lanes)
        try:
            while self._waiting or self._running or self._unknown or self._doubtful:
                self._start_some(workers)
                if self._running:
                    self._take(self._next_outcome())
                elif self._unknown:
                    self._settle()
                elif self._doubtful:
                    self._locate()
        except UploadLostError as error:
            self._job.cancel.set()
            raise StartAgain(error) from error
        except BaseException:
            self._job.cancel.set()
            raise
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
            self.bytes_sent += sum(task.bytes_sent for task in self._running.values())
        return tuple(self._done[number] for number in sorted(self._done))

    def _ask_where(self) -> None:
        """Once, for all that begin at the same time. Without an answer each asks for itself, and tries again."""
        if self._waiting:
            began = time.monotonic()
            with suppress(ClusterError, TransportError):
                self._mpu.locate(self._waiting[0])
            self.spent.redirect += time.monotonic() - began

    def _start_some(self, workers: Executor) -> None:
        # Part 1 only after another part is stored: then the cluster's checksum of the whole is CRC32C, whatever the
        # bucket's type (protocol 5.3), and HEAD proves the object. And nothing while a part's fate is unknown.
        # Inline, `submit` is the sending: one at a time, so that a failure is seen before the next one starts.
        most = 1 if self._job.options.engine == "inline" else self._job.resources.throttle.limit
        while self._waiting and not self._unknown and len(self._running) < most and self._may_start(self._waiting[0]):
            number = self._waiting.popleft()
            self._alone = None
            self._log.begin(number, itertools.islice(self._waiting, self._job.options.max_concurrency))
            # Inline, the thread that sends is the one that may tell progress.
            on_piece = self._meter.tick if self._job.options.engine == "inline" else None
            task = PartTask(self._job, self._mpu, self._plan.parts[number - 1], on_piece)
            task.attempts = self._sent_before.pop(number, 0)
            try:
                future = workers.submit(task.run)
            except RuntimeError as error:  # an executor's word for an interpreter that is shutting down
                raise UploadError(f"no worker can be started: {error}; engine='inline' needs none") from error
            self._running[future] = task
            future.add_done_callback(self._outcomes.put)

    def _may_start(self, number: int) -> bool:
        if self._doubtful:
            return number == self._alone
        return number != 1 or bool(self._done) or len(self._plan.parts) == 1

    def _next_outcome(self) -> Future[PartReceipt]:
        cancel = self._job.cancel
        while True:
            intervals = (self._meter.interval, cancel.interval, self._log.interval)
            try:
                return self._outcomes.get(timeout=min((each for each in intervals if each is not None), default=None))
            except Empty:
                self._log.tick()
                self._meter.tick()
                if cancel.is_set():
                    raise Cancelled("stopped while parts were in flight") from None

    def _take(self, future: Future[PartReceipt]) -> None:
        task = self._running[future]
        try:
            receipt = future.result()
        except AmbiguousPartError as error:
            self._ended(future)
            self._unknown[task.part.number] = error
            self._tasks[task.part.number] = task
        else:
            self._ended(future)
            self._acknowledged(receipt)

    def _ended(self, future: Future[PartReceipt]) -> None:
        task = self._running.pop(future)
        self.bytes_sent += task.bytes_sent
        self.spent.add(task.spent)

    def _acknowledged(self, receipt: PartReceipt) -> None:
        self._done[receipt.number] = receipt
        self._log.acknowledged(receipt.number, receipt.checksums)
        self._meter.acknowledged(receipt.length)

    # --- an earlier job's parts ---------------------------------------------------------------------------------------

    def _take_over(self, recalled: Recall) -> None:
        for number, checksums in recalled.acknowledged.items():
            self._done[number] = stored_before(self._job.source, self._plan.parts[number - 1], (), checksums)
            self._meter.taken_over(self._done[number].length)
        self._doubtful = set(recalled.begun)
        self.settled |= self._doubtful  # who sent what is not certain: looked at when the object is complete
        self._waiting = deque(number for number in self._waiting if number not in recalled.noted)

    def _locate(self) -> None:
        """Ask what the cluster has of the doubtful parts; nothing is in flight."""
        self.probes += 1
        probe = ask(self._mpu, self._job.cancel)
        found = None if probe is None else probe.count - len(self._done)
        if probe is None or found is None or not 0 <= found <= len(self._doubtful):
            raise self._contradiction(f"it answered {probe}")
        gap = probe.contiguous + 1
        if found == len(self._doubtful):
            self._found(self._doubtful, stored=True)
        elif found == 0:
            self._found(self._doubtful, stored=False)
        elif gap in self._doubtful or gap in self._waiting:
            self._found({number for number in self._doubtful if number < gap}, stored=True)
            self._found(self._doubtful & {gap}, stored=False)
            self._waiting.remove(gap)
            self._waiting.appendleft(gap)
            self._alone = gap
        else:
            raise self._contradiction(f"part {gap} is acknowledged, and it has none")

    def _found(self, numbers: set[int], *, stored: bool) -> None:
        for number in sorted(numbers):
            self._mpu.ledger.end(number, PartEvent.FOUND_STORED if stored else PartEvent.FOUND_MISSING)
            if stored:
                kinds = PART_CHECKSUMS[self._job.options.checksum]
                self._acknowledged(stored_before(self._job.source, self._plan.parts[number - 1], kinds))
        self._doubtful = self._doubtful - numbers
        if not stored:
            open_ones = numbers | set(self._waiting)
            self._waiting = deque(number for number in self._plan.send_order() if number in open_ones)

    def _contradiction(self, what: str) -> StartAgain:
        known = f"{len(self._done)} parts acknowledged and {len(self._doubtful)} begun"
        return StartAgain(
            ResumeError(
                f"{self._mpu.uri}: what the cluster has does not fit the journal's {known}: {what}",
                **self._mpu.ledger.names(),
            )
        )

    def _settle(self) -> None:
        self.probes += 1
        self.settled.update(self._unknown)
        stored, missing = settle(self._mpu, self._unknown, self._job.cancel, self._job.options.fence)
        for number in stored:
            self._acknowledged(self._tasks.pop(number).receipt())
        for number in missing:
            self._sent_before[number] = self._tasks.pop(number).attempts
            if self._sent_before[number] >= self._job.options.retry.attempts or not self._job.resources.budget.spend():
                raise PartError(
                    f"part {number} failed after {self._sent_before[number]} attempts, none of which was answered: "
                    f"{self._unknown[number]}",
                    part_number=number,
                    attempts=self._sent_before[number],
                    **self._mpu.ledger.names(),
                ) from self._unknown[number]
        self._waiting.extendleft(reversed(missing))
        self._unknown.clear()
