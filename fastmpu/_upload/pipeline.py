"""One upload from plan to proof.

Runs in the caller's thread; parts_run.py says which threads it starts. It is a generator for the sake of small objects,
which are stored by one thread and may wait for their proof without it (proofs.py). Every exit from here has ended all
attempts, and has aborted what can be aborted.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from .._plan import Plan
from .._sizes import MiB
from .._source import Source
from ..ais import MultipartUpload, Object
from ..ais.states import UploadEvent
from ..errors import (
    Cancelled,
    ClusterError,
    DeadlineError,
    FastMPUError,
    IntegrityError,
    NotAIStoreError,
    RedirectRefusedError,
    RestartsExhaustedError,
    TransportError,
    UploadError,
    UploadLostError,
)
from .cancel import CancelEvent, CancelFlag
from .config import UploadOptions
from .earlier_job import finished_before
from .fence import StartAgain, complete, probe_parts
from .job_log import JobLog
from .part_task import Job, with_retries
from .parts_run import PartsRun
from .progress import OnProgress, ProgressEvent, ProgressMeter
from .recall import NotRecalled, Recall, recall, refused
from .receipt import Receipt, combined
from .resources import Resources
from .stages import StageTimes
from .verify import Expected, Stored, is_there, patiently, remove_if_ours, verify
from .whole_put import WholePut

if TYPE_CHECKING:
    from ..ais.object import Put
    from .process_transport import ProcessTransport

logger = logging.getLogger("fastmpu")

MAX_RESTARTS: Final = 2  # new upload ids for one object; what needs more will not get better
# Seconds. Space cleanup may take parts of older uploads: after 30 minutes by AIStore's default (protocol 5.4).
OLD_UPLOAD: Final = 20 * 60.0
# Times `Timeouts.fence` between looks at an object whose complete was not answered: 7.5 s by default.
CONFIRM_AFTER: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
ABORT_TRIES: Final = 3
READ_AHEAD: Final = 2 * MiB  # of each part that starts at once; asking for it costs some 20 us where it is in memory
# What a request can end in, other than an answer that says it is done.
NOT_DONE: Final = (ClusterError, TransportError, NotAIStoreError, RedirectRefusedError)

BY_MAP: Final = ("size", "head", "probe")  # what is said of an object that its answer and a newer map prove

T = TypeVar("T")
# Yields a put that was checked, and is told whether that was at the owner of its name; False: nobody has looked.
Steps = Generator["Put", bool, Receipt]


class Upload:
    """`source` to `target`, as planned. `steps()` once."""

    def __init__(
        self,
        source: Source,
        target: Object,
        plan: Plan,
        options: UploadOptions,
        on_progress: OnProgress | None,
        cancel: CancelEvent | None,
        log: JobLog,
        resources: Resources,
        processes: ProcessTransport | None = None,
        engine_reason: str = "",
    ):
        self._source = source
        self._target = target
        self._plan = plan
        self._options = options
        self._event = cancel
        self._log = log
        self._resources = resources
        self._processes = processes
        self._engine_reason = engine_reason
        self._spent = StageTimes()
        self._began = time.monotonic()
        self._meter = ProgressMeter(plan.size, on_progress)
        self._attempts = 0
        self._probes = 0
        self._restarts = 0
        self._bytes_sent = 0
        self._upload_id: str | None = None  # the latest
        self._leftovers: list[MultipartUpload] = []
        self._recalled_once = False
        self._deleted: IntegrityError | None = None  # why the first object was taken away again
        self._unsure = ""  # what may stand there, and nobody has looked at

    def snapshot(self) -> ProgressEvent:
        """How far it is, for any thread."""
        return self._meter.snapshot()

    def steps(self) -> Steps:
        self._meter.tick()
        failure: BaseException | None = None
        try:
            return (yield from self._steps())
        except Cancelled as error:
            failure = self._why_cancelled(error)
            raise failure from error
        except BaseException as error:
            failure = error
            raise
        finally:
            for mpu in self._leftovers:
                self._abort(mpu, failure)
            if failure is not None and self._unsure:
                self._tell(failure, self._unsure)
            if failure is not None and self._deleted is not None:
                self._tell(
                    failure,
                    f"{self._target.uri}: the first object that this upload stored was damaged and was deleted; what "
                    f"it had replaced is gone ({self._deleted})",
                )
            del failure  # it has this frame in its traceback

    def _steps(self) -> Steps:
        while True:
            stored = self._in_parts() if self._plan.multipart else self._whole()
            self._meter.enter("verify")
            by_map = stored.checked is not None and self._options.verify in BY_MAP and (yield stored.checked)
            try:
                with self._stage("verify"):
                    verified = self._verify(stored, by_map)
                break
            except IntegrityError as error:
                removed = remove_if_ours(self._target, stored.expected)
                self._log.ended("lost", stored.upload_id)
                if self._deleted is not None or not removed:
                    self._tell(error, f"{self._target.uri}: the damaged object was {'deleted' if removed else 'left'}")
                    raise
                logger.warning("%s: %s; it was deleted and is uploaded once more", self._target.uri, error)
                self._deleted = error
                self._meter.restart()
            except FastMPUError as error:
                self._tell(
                    error, f"{self._target.uri} is there, but was not verified: read it back before you trust it"
                )
                raise
        self._log.ended("done", stored.upload_id)
        self._meter.enter("done")
        receipt = Receipt(
            uri=self._target.uri,
            source=self._source.name,
            size=self._plan.size,
            checksum=stored.expected.checksum,
            verified=verified,
            seconds=time.monotonic() - self._began,
            upload_id=stored.upload_id,
            part_size=self._plan.part_size,
            parts=stored.parts,
            attempts=self._attempts,
            probes=self._probes,
            restarts=self._restarts,
            resumed=sum(not part.attempts for part in stored.parts),
            bytes_sent=self._bytes_sent,
            read=self._source.reading,
            engine=self._options.engine,
            engine_reason=self._engine_reason,
            max_concurrency=self._options.max_concurrency,
            stages=self._spent,
        )
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s: %s", self._target.uri, receipt.verdict or "nothing to send")
        return receipt

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """What a stage of the whole upload takes, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            setattr(self._spent, name, getattr(self._spent, name) + ended - began)
            if self._resources.trace is not None:
                self._resources.trace.span(name, began, ended, object=self._target.uri)

    def _job(self) -> Job:
        """With a flag of its own for each try: the one before has raised its flag to end its attempts."""
        left = self._options.deadline
        if left is not None:
            left = max(0.0, left - (time.monotonic() - self._began))
        cancel = CancelFlag(self._event, left)
        return Job(self._source, self._options, cancel, self._resources, self._processes)

    def _whole(self) -> Stored:
        put = WholePut(self._job(), self._plan, self._target, self._meter)
        self._meter.sender = put
        try:
            checksum, version = put.send()
        finally:
            self._meter.sender = None
            self._attempts += put.attempts
            self._bytes_sent += put.bytes_sent
            self._spent.add(put.spent)
        self._meter.acknowledged(self._plan.size)
        return Stored(Expected(self._plan.size, checksum, version=version), checked=put.checked)

    # --- in parts -----------------------------------------------------------------------------------------------------

    def _in_parts(self) -> Stored:
        recalled = self._recall()
        while True:
            job = self._job()
            mpu = self._target.multipart_upload()
            if recalled is None:
                self._expect_first()
                with self._stage("create"):
                    with_retries(mpu.create, job, repeatable=True)
                assert mpu.upload_id is not None
                self._log.opened(mpu.upload_id)
            else:
                mpu.take_over(recalled.entry.upload_id, recalled.acknowledged, recalled.begun)
                self._log.took_over(recalled.row, recalled.entry, recalled.noted)
            self._upload_id = mpu.upload_id
            try:
                return self._under(mpu, job, recalled)
            except StartAgain as again:
                if recalled is not None and self._options.resume == "require":
                    self._log.ended("abort-pending", mpu.upload_id)
                    raise refused(str(again), self._target.uri) from again.cause
                recalled = None
                self._log.ended("abort-pending" if again.abort else "lost", mpu.upload_id)
                # An attempt of the old upload may still be alive: its abort waits until the end of the job.
                if again.abort:
                    self._leftovers.append(mpu)
                if job.cancel.requested or job.cancel.overdue:
                    raise Cancelled(f"not started again: {again}") from again.cause
                if self._restarts == MAX_RESTARTS:
                    raise self._exhausted(again.cause) from again.cause
                self._restarts += 1
                logger.warning("%s: starting again under a new upload id: %s", self._target.uri, again)
                self._meter.restart()
            except BaseException as error:
                if mpu.may_abort and self._options.on_error == "abort":
                    self._abort(mpu, error)
                raise

    def _expect_first(self) -> None:
        """Let the disk begin with what is sent first, while the cluster is asked for an upload id."""
        for number in itertools.islice(self._plan.send_order(), self._options.max_concurrency):
            part = self._plan.parts[number - 1]
            self._source.expect(part.offset, min(part.length, READ_AHEAD))

    def _recall(self) -> Recall | None:
        """An earlier job's upload to go on with. Once: what is started again is started afresh."""
        if self._options.resume == "never" or self._recalled_once:
            return None
        self._recalled_once = True
        try:
            recalled = recall(self._log, self._source, self._plan)
        except NotRecalled as error:
            reason = str(error)  # a log that keeps the error itself would keep this upload
            if self._options.resume == "require":
                raise refused(reason, self._target.uri) from None
            logger.info("%s: starting afresh: %s", self._target.uri, reason)
            return None
        logger.info(
            "%s: going on with upload %s: %d parts are acknowledged",
            self._target.uri,
            recalled.entry.upload_id,
            len(recalled.acknowledged),
        )
        return recalled

    def _under(self, mpu: MultipartUpload, job: Job, recalled: Recall | None) -> Stored:
        """One try, under one upload id."""
        opened = time.monotonic()
        if recalled is not None:
            self._meter.tick()
            self._probes += 1
            done = finished_before(self._target, mpu, self._source, self._plan, job, recalled)
            if done is not None:
                self._meter.taken_over(self._plan.size)
                return done
            # By the wall clock, the only one that outlives a process; set back, it tells nothing.
            opened -= recalled.age if recalled.age >= 0 else OLD_UPLOAD + 1
        run = PartsRun(job, self._plan, mpu, self._meter, self._log, recalled)
        self._meter.sender = run
        try:
            parts = run.send()
        finally:
            self._meter.sender = None
            self._attempts += run.attempts
            self._probes += run.probes
            self._bytes_sent += run.bytes_sent
            self._spent.add(run.spent)
        self._source.check()
        checksum = combined(parts) if self._options.checksum != "none" else ""
        assert mpu.upload_id is not None
        expected = Expected(self._plan.size, checksum, mpu.upload_id, len(parts))
        self._meter.enter("complete")
        self._log.completing()
        with self._stage("complete"):
            self._complete(mpu, expected, job)
        # Who was sent more than once, or was doubtful, may be a hole; old uploads may have been cleaned up meanwhile.
        old = time.monotonic() - opened > OLD_UPLOAD
        doubtful = tuple(part for part in parts if part.attempts > 1 or part.number in run.settled or old)
        return Stored(expected, mpu.upload_id, parts, doubtful)

    def _complete(self, mpu: MultipartUpload, expected: Expected, job: Job) -> None:
        """Once. If its answer is missing, the object itself is asked, and never `complete` again (protocol H5)."""
        try:
            complete(mpu, job)
            return
        except UploadLostError as error:
            raise StartAgain(error) from error
        except NOT_DONE as error:
            if mpu.may_abort:  # refused in so many words; nothing of it is under way
                raise UploadError(
                    f"{self._target.uri}: the cluster refused to complete upload {mpu.upload_id}: {error}",
                    **mpu.ledger.names(),
                ) from error
            self._unsure = (
                f"{self._target.uri}: complete of upload {mpu.upload_id} was not answered: if an object came of it, it "
                "was not verified; read it back before you trust it"
            )
            if self._confirmed(expected, job.cancel):
                mpu.ledger.apply(UploadEvent.CONFIRMED)
                self._unsure = ""
                return
            if self._discarded(mpu):
                self._unsure = ""
            elif expected.checksum and is_there(self._target, expected):
                self._unsure = ""
                return  # the upload was gone because its complete had been carried out meanwhile
            raise StartAgain(error, abort=False) from error

    def _discarded(self, mpu: MultipartUpload) -> bool:
        """End the upload, so that its complete cannot come late and replace what is uploaded next. False: the cluster
        did not know it any more. UploadError if that cannot be had: then nothing may follow."""
        try:
            return self._insisting(mpu.discard)
        except NOT_DONE as failure:
            raise UploadError(
                f"{self._target.uri}: complete of upload {mpu.upload_id} was not answered, the object does not prove "
                f"that it was done, and the upload cannot be ended: {failure}. It may still be carried out: look at "
                "the object before you upload it again",
                **mpu.ledger.names(),
            ) from failure

    def _confirmed(self, expected: Expected, cancel: CancelFlag) -> bool:
        if not expected.checksum:
            return False  # an older object of the same size would look the same
        for fences in CONFIRM_AFTER:
            stopped = cancel.wait(fences * self._target.bucket.client.endpoint.timeouts.fence)
            if is_there(self._target, expected):
                return True
            if stopped:
                raise Cancelled("complete was sent and not answered, and the object does not prove it yet")
        return False

    def _verify(self, stored: Stored, by_map: bool) -> str:
        """The level that was reached. Doubtful parts are looked at one by one at every level but "none"."""
        level = self._options.verify
        if by_map:
            return "size" if level == "size" else "head"
        retry = self._options.retry
        reached = patiently(lambda: verify(self._target, stored.expected, "head" if level == "probe" else level), retry)
        if level != "none":
            probe_parts(self._target, stored.parts if level == "probe" else stored.doubtful, stored.upload_id, retry)
        return "probe" if level == "probe" and stored.parts and reached == "head" else reached

    # --- giving up ----------------------------------------------------------------------------------------------------

    def _abort(self, mpu: MultipartUpload, error: BaseException | None = None) -> None:
        """Leave no parts behind; the error that brought us here stays the one that is raised."""
        try:
            self._insisting(mpu.abort)
            self._log.ended("aborted", mpu.upload_id)
        except NOT_DONE as failure:
            self._log.ended("abort-pending", mpu.upload_id)
            self._tell(error, f"upload {mpu.upload_id} of {self._target.uri} could not be aborted: {failure}")

    def _insisting(self, end: Callable[[], T]) -> T:
        """The result of `end`, an abort or a discard, in up to ABORT_TRIES tries; the last failure goes through."""
        for _ in range(ABORT_TRIES - 1):
            try:
                return end()
            except NOT_DONE as failure:
                logger.info("trying again: %s", failure)
                # What ended the upload may have ended the idle connections as well, without a word: each would cost a
                # try and its whole timeout.
                self._target.bucket.client.endpoint.drop_idle()
        return end()

    @staticmethod
    def _tell(error: BaseException | None, note: str) -> None:
        """What the user must know beside the error that is raised."""
        logger.warning(note)
        if error is not None and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(note)

    def _exhausted(self, cause: FastMPUError) -> RestartsExhaustedError:
        return RestartsExhaustedError(
            f"{self._target.uri}: given up after {self._restarts + 1} uploads, each under an id of its own; the last: "
            f"{cause}",
            object_name=self._target.uri,
        )

    def _why_cancelled(self, error: Cancelled) -> Cancelled | DeadlineError:
        names = {"upload_id": self._upload_id, "object_name": self._target.uri}
        why: Cancelled | DeadlineError
        if self._event is not None and self._event.is_set():
            why = Cancelled(f"{self._target.uri}: cancelled on request", **names)
        elif self._options.deadline is not None and time.monotonic() - self._began >= self._options.deadline:
            why = DeadlineError(f"{self._target.uri}: not finished within deadline={self._options.deadline} s", **names)
        else:
            return error
        if hasattr(why, "add_note"):  # Python 3.11
            for note in getattr(error, "__notes__", ()):  # as of an abort that failed
                why.add_note(note)
        return why
