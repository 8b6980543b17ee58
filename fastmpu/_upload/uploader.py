"""`upload()`: from whatever the caller has to one finished, proved object; and `Uploader`, for many of them.

Threads of an `Uploader`, all of which end with it:
- "fastmpu_0" and up, at most `max_concurrency`: the lanes. Each sends one part of a large source, or does all that a
  smaller one needs, from opening it until it is stored.
- "fastmpu-small_0": the small lane (small_lane.py), which does so for many small ones at once; `Places` counts what it
  and the lanes have in flight. It also ends all that are stored (proofs.py).
- "fastmpu-upload_0" and up, at most `LARGE_AT_ONCE`: the producers of large sources (parts_run.py), which wait for
  lanes, and never the other way round.
- What users have given is called by lanes, or, where the small lane would have to, by "fastmpu-call_0" and up, at most
  `CALLERS`.
Anyone may submit, cancel, and ask. A Transfer's own fields are written by its submitter, then by one thread at a time.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar

from .._source import is_local
from .._transport import wait_by, waiter
from ..ais import Client, Object, Secret, parse_uri
from ..ais.credentials import TokenSource, held
from ..ais.names import ObjectURI
from ..ais.object import Put
from ..errors import Cancelled, InvalidNameError, UsageError
from .cancel import CancelEvent
from .config import UploadOptions
from .pipeline import Steps, Upload
from .progress import OnProgress, ProgressEvent
from .proofs import Parked, Proofs, at_owners
from .receipt import Receipt
from .resources import Resources, bounded
from .single import plan_for, to_the_end, upload_steps
from .small_lane import SmallLane
from .whole_put import READ_ONCE
from .workers import InlineExecutor, PlacedExecutor, Places, executor, submit_or_do

logger = logging.getLogger("fastmpu")
T = TypeVar("T")

# So many that one's beginning and end, which send no data, are filled by others; each has its share of the lanes.
LARGE_AT_ONCE: Final = 4
# Small objects that wait for their proof, each with its file open: up to twice as many as are sent, since a map takes
# up to two round trips, as sending does; and these at least, as many as the small lane stores between two maps.
LEAST_HELD: Final = 64
# Threads for users' functions that are called when a small object is proved.
CALLERS: Final = 8


def upload(
    source: Any,
    target: str | Object,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
    progress: OnProgress | None = None,
    cancel: CancelEvent | None = None,
    **options: Any,
) -> Receipt:
    """Store `source`, a path or a C-contiguous buffer (bytes, memoryview, ndarray), as one object. No reader of the
    object ever sees half of it; when this returns it has been proved to the level of `verify`.

    `target`: an Object, or "ais://bucket/name"; a name that ends in "/", or none, takes the file's own. `client`, or
    `endpoint` and `token` for one of this call's own (default: `AIS_ENDPOINT`, `AIS_AUTHN_TOKEN`). `progress` is called
    with ProgressEvents in this thread. `cancel`: an event, as threading.Event; set it, from any thread, to stop:
    attempts are ended, the upload is aborted, and Cancelled is raised. `options` are the fields of UploadOptions,
    keyword by keyword.

    Raises UsageError before any request; SourceChangedError if the file changed meanwhile; UploadError and its leaves
    when the upload was given up, after aborting it. An upload in parts of a file whose process was killed goes on where
    it was when the same call is made again (`journal`, `resume`); UploadInProgressError while another job is at it.
    """
    secret: Secret | TokenSource | None = held(token)
    del token  # no frame shows it from here on
    chosen = UploadOptions.of(options)
    _check_progress(progress)
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise UsageError(f"cancel={cancel!r}: it must be an event, as threading.Event()")
    with ExitStack() as stack:
        if not isinstance(target, Object):
            place = _place(target, source)
            target = _object(place, client or stack.enter_context(Client(endpoint, token=secret)))
        resources = stack.enter_context(Resources.of(chosen))
        target.bucket.client.endpoint.expect(resources.options.max_concurrency)
        steps = upload_steps(source, target, resources, progress=progress, cancel=cancel)
        return to_the_end(steps, lambda put: False)  # there is nobody to share a map with: HEAD tells


class _Stop:
    """A CancelEvent that nobody waits for. There may be thousands, and a threading.Event is a handful of objects."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


class Transfer(Future[Receipt]):
    """One upload of an `Uploader`: a future, for `result()`, `add_done_callback`, `concurrent.futures.as_completed`."""

    def __init__(self, uri: str, total: int):
        super().__init__()
        self.uri = uri
        self._total = total
        self._stop = _Stop()
        self._upload: Upload | None = None  # while it is under way: it holds the source, and maybe its bytes
        self._last: ProgressEvent | None = None  # how far it was when it ended
        self._guard = threading.Lock()  # of the next one
        self._callbacks: tuple[Callable[[Future[Receipt]], object], ...] | None = ()  # None: they are being called

    def add_done_callback(self, fn: Callable[[Future[Receipt]], object]) -> None:
        """As a Future's. `fn` is called after the result is there, and may take its time."""
        # Not the Future's own, which are called by whoever sets the result.
        with self._guard:
            if self._callbacks is not None:
                self._callbacks = (*self._callbacks, fn)
                return
        self._call([fn])

    def _set(self, outcome: Receipt | BaseException) -> Iterable[Callable[[Future[Receipt]], object]]:
        """The end. What is to be called now."""
        if self._upload is not None:
            self._last = self._upload.snapshot()
            self._upload = None
        if isinstance(outcome, Receipt):
            self.set_result(outcome)
        else:
            self.set_exception(outcome)
        with self._guard:
            callbacks, self._callbacks = self._callbacks, None
        return callbacks or ()

    def _call(self, callbacks: Iterable[Callable[[Future[Receipt]], object]]) -> None:
        for callback in callbacks:
            try:
                with wait_by(None):
                    callback(self)
            except Exception:
                logger.exception("a function that was given for %r failed", self)

    def cancel(self) -> bool:
        """Stop it, if it is not done: `result()` then raises `fastmpu.errors.Cancelled`, once its attempts have ended
        and its parts are aborted. Does not wait. Whether there was something to stop."""
        self._stop.set()
        return not self.done()

    def snapshot(self) -> ProgressEvent:
        """How far it is, now."""
        upload = self._upload
        if upload is not None:
            return upload.snapshot()
        return self._last or ProgressEvent(self._total, 0, 0, "waiting", 0.0)

    def __repr__(self) -> str:
        return f"<Transfer {self.uri} {self._state.lower()}>"


class Uploader:
    """Uploads many sources through one client and one set of threads: `submit` them, then ask each Transfer for its
    `result()`.

    `client`, or `endpoint` and `token` for one of its own, as in `upload`. `options` are the fields of UploadOptions,
    for all uploads; its bounds, as `max_concurrency`, `max_memory` and `max_bandwidth`, hold for all of them together.
    With `engine="inline"` nothing runs in other threads: `submit` returns when the upload has ended. With
    `engine="process"` large sources follow one another, each with worker processes of its own, if sending it takes more
    than a second.

    Close it, or use it as a context manager: that waits for all transfers, or, if an exception is on its way, cancels
    them first. A failed transfer tells only by its `result()`.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        endpoint: str | None = None,
        token: str | Secret | TokenSource | None = None,
        **options: Any,
    ):
        secret: Secret | TokenSource | None = held(token)
        del token  # no frame shows it from here on
        chosen = bounded(UploadOptions.of(options))
        self._process = os.getpid()
        with ExitStack() as stack:
            self._client = client or stack.enter_context(Client(endpoint, token=secret))
            self._client.endpoint.expect(chosen.max_concurrency + LARGE_AT_ONCE)
            self._inline = chosen.engine == "inline"
            places = Places(chosen.max_concurrency)
            self._lanes = InlineExecutor() if self._inline else PlacedExecutor(places, "fastmpu")
            at_once = 1 if chosen.engine == "process" else LARGE_AT_ONCE
            self._producers = executor(chosen.engine, at_once, name="fastmpu-upload")
            self._callers = ThreadPoolExecutor(CALLERS, "fastmpu-call")
            self._small_lane = SmallLane(places, lambda: self._proofs.has_room)
            most = max(2 * chosen.max_concurrency, LEAST_HELD)
            self._proofs = Proofs(self._client.endpoint, self._small_lane, self._lanes, most)
            self._local: dict[int, bool] = {}  # device -> whether its files are at hand
            self._resources = stack.enter_context(Resources.of(chosen, None if self._inline else self._lanes))
            self._stack = stack.pop_all()
        self._lock = threading.Lock()  # guards the two below
        self._over = threading.Condition(self._lock)  # nothing is open
        self._open: set[Transfer] = set()
        self._closed = False

    def submit(self, source: Any, target: str | Object, *, progress: OnProgress | None = None) -> Transfer:
        """Upload `source` to `target`, both as in `upload`, as soon as its turn comes. `progress`, and what
        is given to the Transfer's `add_done_callback`, is called in the uploader's threads.

        Raises UsageError for what can be seen now, before any request; RuntimeError when the uploader is closed;
        ForkError in a forked child. What comes of the source, as a file that is not there, is the Transfer's.
        """
        _check_progress(progress)
        self._client.endpoint.check_process()
        if not isinstance(target, Object):
            target = _object(_place(target, source), self._client)
        options = self._resources.options
        size, device = _size_and_device(source)
        large = options.engine != "inline" and plan_for(size, options, target).multipart
        transfer = Transfer(target.uri, size)
        with self._lock:
            if self._closed:
                raise RuntimeError("the uploader is closed")
            self._open.add(transfer)
        steps = self._steps(transfer, source, target, progress, large)
        in_one_go = large or self._inline
        if not in_one_go:
            self._proofs.coming()
        try:
            if in_one_go:
                self._producers.submit(self._all_of, transfer, steps)
            elif size <= READ_ONCE and progress is None and self._takes_turns and self._at_hand(source, device):
                self._small_lane.submit(partial(self._store, transfer, steps))
            else:
                self._lanes.submit(self._store, transfer, steps)
        except RuntimeError as error:  # an executor's word for an interpreter that is shutting down
            if not in_one_go:
                self._proofs.gone()
            self._forget(transfer)
            transfer.set_exception(error)
            raise
        return transfer

    def cancel(self) -> None:
        """Cancel all transfers that are not done. Does not wait."""
        with self._lock:
            transfers = list(self._open)
        for transfer in transfers:
            transfer.cancel()

    def close(self) -> None:
        """Wait for all transfers; then end the threads, write the trace, and close the client, if it is its own. Twice
        is fine. In a forked child nothing: what is there is the parent's."""
        if os.getpid() != self._process:
            return
        with ExitStack() as stack:
            stack.callback(self._stack.close)
            stack.callback(self._callers.shutdown)
            stack.callback(self._small_lane.close)
            stack.callback(self._lanes.shutdown)
            stack.callback(self._producers.shutdown)
            with self._lock:
                self._closed = True
            try:
                with self._lock:
                    self._over.wait_for(lambda: not self._open)
            except BaseException:  # Ctrl-C
                self.cancel()
                raise

    def __enter__(self) -> Uploader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        self.close()

    def __repr__(self) -> str:
        with self._lock:
            return f"<Uploader {'closed' if self._closed else 'open'}, {len(self._open)} transfers not done>"

    @property
    def _takes_turns(self) -> bool:
        """A trace shows what each thread does, one thing after the other; and who is paced reads as it goes."""
        alone = self._resources.trace is not None or self._resources.bandwidth is not None
        return self._client.endpoint.takes_turns and not alone

    def _at_hand(self, source: Any, device: int | None) -> bool:
        """Whether the source can be opened without waiting for another host. Asked once for each device."""
        if device is None:
            return not isinstance(source, (str, os.PathLike))  # a file that is not there is for a lane to find
        known = self._local.get(device)
        if known is None:
            known = self._local[device] = is_local(source)
        return known

    def _forget(self, transfer: Transfer) -> None:
        with self._lock:
            self._open.discard(transfer)
            if not self._open:
                self._over.notify_all()

    def _steps(
        self, transfer: Transfer, source: Any, target: Object, progress: OnProgress | None, large: bool
    ) -> Steps:
        transfer.set_running_or_notify_cancel()
        if transfer._stop.is_set():
            raise Cancelled(f"{target.uri}: cancelled before it began", object_name=target.uri)
        return (
            yield from upload_steps(
                source,
                target,
                self._resources,
                progress=None if progress is None else partial(self._report, transfer, progress),
                cancel=transfer._stop,
                in_lane=not large,
                started=partial(setattr, transfer, "_upload"),
            )
        )

    def _all_of(self, transfer: Transfer, steps: Steps) -> None:
        """All of one upload, in this thread."""
        outcome = _end_of(partial(to_the_end, steps, lambda put: all(at_owners(self._client.endpoint, [put]))))
        self._tell(transfer, outcome)
        if self._inline and not isinstance(outcome, (Receipt, Exception)):
            raise outcome  # Ctrl-C, in the caller's own thread

    def _store(self, transfer: Transfer, steps: Steps) -> None:
        """A small source, until it is stored; then others take over. In a lane."""
        self._proofs.look()
        outcome = _end_of(partial(_first_of, steps))
        if isinstance(outcome, Put):
            self._proofs.park(Parked(outcome, partial(self._resume, transfer, steps)))
            return
        self._proofs.gone()
        self._tell(transfer, outcome)

    def _resume(self, transfer: Transfer, steps: Steps, proved: bool) -> Callable[[], object]:
        """Once it is proved, in the small lane. What is not proved, in any lane. What it gives tells the transfer."""
        outcome = _end_of(partial(to_the_end, steps, lambda put: False, proved))
        self._proofs.ended()
        return partial(self._tell, transfer, outcome)

    def _tell(self, transfer: Transfer, outcome: Receipt | BaseException) -> None:
        callbacks = transfer._set(outcome)
        self._forget(transfer)
        if callbacks:
            self._for_users(transfer, callbacks)

    def _report(self, transfer: Transfer, progress: OnProgress, event: ProgressEvent) -> None:
        if waiter() is None:
            progress(event)
        else:
            self._for_users(transfer, [lambda _: progress(event)])

    def _for_users(self, transfer: Transfer, functions: Iterable[Callable[[Future[Receipt]], object]]) -> None:
        """Functions of theirs may take long, and wait for what the small lane does: it never calls them."""
        if waiter() is None:
            transfer._call(functions)
        else:
            submit_or_do(self._callers, partial(transfer._call, functions))


def _first_of(steps: Steps) -> Put | Receipt:
    """Their first question, or their end."""
    try:
        return next(steps)
    except StopIteration as end:
        receipt: Receipt = end.value
        return receipt


def _end_of(upload: Callable[[], T]) -> T | BaseException:
    try:
        return upload()
    except BaseException as error:  # noqa: BLE001 - the transfer's
        _let_go(error)
        return error


def _let_go(error: BaseException) -> None:
    """Of what the frames of an error, and of its reasons, worked on: it is kept as long as its Transfer, and they have
    the source's bytes, and that Transfer. Their lines stay."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            left += [one.__cause__, one.__context__]


def _check_progress(progress: object) -> None:
    if progress is not None and not callable(progress):
        raise UsageError(f"progress={progress!r}: it must be a function that takes a ProgressEvent")


def _place(uri: Any, source: Any) -> ObjectURI:
    """The URI with its name, which may be the file's."""
    if not isinstance(uri, str):
        raise UsageError(f"the target must be an Object or a URI such as 'ais://bucket/name', not {type(uri).__name__}")
    place = parse_uri(uri)
    if place.name and not place.name.endswith("/"):
        return place
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidNameError(
            f"{uri!r} names no object, and a {type(source).__name__} has no name of its own: write ais://bucket/name"
        )
    return place._replace(name=place.name + os.path.basename(os.fsdecode(source)))


def _object(place: ObjectURI, client: Client) -> Object:
    return client.bucket(place.bucket, place.provider, place.namespace).object(place.name)


def _size_and_device(source: Any) -> tuple[int, int | None]:
    """In bytes, to tell the large from the small ones; 0 where that cannot be told yet. And a file's device."""
    try:
        if isinstance(source, (str, os.PathLike)):
            status = os.stat(source)
            return status.st_size, status.st_dev
        with memoryview(source) as view:
            return view.nbytes, None
    except (OSError, ValueError, TypeError, BufferError):
        return 0, None
