"""All parts of one upload id: the only loop.

Threads: the caller's own is the producer. It owns the plan, the progress, the receipts and every decision: what starts,
what is doubtful, when to give up. Workers (see workers.py) each send one part at a time and own that part's reader,
body and attempt. What they find out comes home through `_outcomes`, the only queue. Shared besides: the source and the
upload's ledger (their modules say how), and the job's cancel flag, throttle and budget, which have a lock each.

A part is a descriptor until a worker reads it; bytes never travel between threads.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue

from .._plan import Plan
from ..ais import MultipartUpload
from ..errors import AmbiguousPartError, Cancelled, UploadError, UploadLostError
from .fence import StartAgain, settle
from .part_task import Job, PartTask
from .progress import ProgressMeter
from .receipt import PartReceipt
from .workers import executor


class PartsRun:
    """Sends the parts of `plan` under `mpu`'s upload id. `send()` once."""

    def __init__(self, job: Job, plan: Plan, mpu: MultipartUpload, meter: ProgressMeter):
        self._job = job
        self._plan = plan
        self._mpu = mpu
        self._meter = meter
        self._waiting = deque(plan.send_order())
        self._running: dict[Future[PartReceipt], PartTask] = {}
        self._outcomes: SimpleQueue[Future[PartReceipt]] = SimpleQueue()
        self._unknown: dict[int, AmbiguousPartError] = {}
        self._tasks: dict[int, PartTask] = {}  # of the unknown parts
        self._done: dict[int, PartReceipt] = {}
        self.probes = 0
        self.settled: set[int] = set()  # parts whose fate only a gap probe told

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
        workers = executor(options.engine, min(options.max_concurrency, len(self._waiting)))
        try:
            while self._waiting or self._running or self._unknown:
                self._start_some(workers)
                if self._running:
                    self._take(self._next_outcome())
                elif self._unknown:
                    self._settle()
        except UploadLostError as error:
            self._job.cancel.set()
            raise StartAgain(error) from error
        except BaseException:
            self._job.cancel.set()
            raise
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
        return tuple(self._done[number] for number in sorted(self._done))

    def _start_some(self, workers: Executor) -> None:
        # Part 1 only after another part is stored: then the cluster's checksum of the whole is CRC32C, whatever the
        # bucket's type (protocol 5.3), and HEAD proves the object. And nothing while a part's fate is unknown.
        # Inline, `submit` is the sending: one at a time, so that a failure is seen before the next one starts.
        most = 1 if self._job.options.engine == "inline" else self._job.throttle.limit
        while (
            self._waiting
            and not self._unknown
            and len(self._running) < most
            and (self._waiting[0] != 1 or self._done or len(self._plan.parts) == 1)
        ):
            number = self._waiting.popleft()
            # Inline, the thread that sends is the one that may tell progress.
            on_piece = self._meter.tick if self._job.options.engine == "inline" else None
            task = PartTask(self._job, self._mpu, self._plan.parts[number - 1], on_piece)
            try:
                future = workers.submit(task.run)
            except RuntimeError as error:  # an executor's word for an interpreter that is shutting down
                raise UploadError(f"no worker can be started: {error}; engine='inline' needs none") from error
            self._running[future] = task
            future.add_done_callback(self._outcomes.put)

    def _next_outcome(self) -> Future[PartReceipt]:
        cancel = self._job.cancel
        intervals = [each for each in (self._meter.interval, cancel.interval) if each is not None]
        while True:
            try:
                return self._outcomes.get(timeout=min(intervals, default=None))
            except Empty:
                self._meter.tick()
                if cancel.is_set():
                    raise Cancelled("stopped while parts were in flight") from None

    def _take(self, future: Future[PartReceipt]) -> None:
        task = self._running[future]
        try:
            receipt = future.result()
        except AmbiguousPartError as error:
            del self._running[future]
            self._unknown[task.part.number] = error
            self._tasks[task.part.number] = task
        else:
            del self._running[future]
            self._acknowledged(receipt)

    def _acknowledged(self, receipt: PartReceipt) -> None:
        self._done[receipt.number] = receipt
        self._meter.acknowledged(receipt.length)

    def _settle(self) -> None:
        self.probes += 1
        self.settled.update(self._unknown)
        stored, missing = settle(self._mpu, self._unknown, self._job.cancel, self._job.options.fence)
        for number in stored:
            self._acknowledged(self._tasks.pop(number).receipt())
        self._waiting.extendleft(reversed(missing))
        self._unknown.clear()
