"""Who sends parts: the standard library's executors, and one that needs no thread.

Threads: "fastmpu_0" and up, at most `max_concurrency`, owned by the executor and gone when it is shut down. An
`Uploader` has one such executor for all its uploads, with `Places` that its small lane shares; a `Lanes` belongs to the
producer of one upload.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Places:
    """How many tasks of a job may be at work, over all of its threads; each has one body in flight at most. Any thread;
    one lock."""

    def __init__(self, most: int):
        self.most = most
        self.on_free: Callable[[], object] = lambda: None
        """Called when a thread has given its place back."""
        self._free = most
        self._wanted = 0  # so many threads wait for one
        self._changed = threading.Condition(threading.Lock())

    @property
    def are_wanted(self) -> bool:
        """By threads that have to wait for one."""
        return self._wanted > 0

    @property
    def are_left(self) -> bool:
        """For whoever need not wait for one, once those who wait have theirs."""
        return self._free > self._wanted

    def try_take(self) -> bool:
        """One of those that are left."""
        with self._changed:
            taken = self.are_left
            self._free -= taken
            return taken

    def give_back(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify()

    def within(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn` in a place, as soon as there is one."""
        with self._changed:
            self._wanted += 1
            try:
                while not self._free:
                    self._changed.wait()
                self._free -= 1
            finally:
                self._wanted -= 1
        try:
            return fn(*args, **kwargs)
        finally:
            self.give_back()
            self.on_free()


class PlacedExecutor(ThreadPoolExecutor):
    """Threads, each task in one of the `places`."""

    def __init__(self, places: Places, name: str):
        super().__init__(places.most, name)
        self._places = places

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(self._places.within, fn, *args, **kwargs)


class InlineExecutor(Executor):
    """Does the work inside `submit`, in the caller's thread: the order is the order of submission."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - kept in the future, as every executor does
            future.set_exception(error)
        return future


class Lanes(Executor):
    """Threads that several uploads share, as one of them sees it: `shutdown` concerns what this one submitted."""

    def __init__(self, shared: Executor):
        self._shared = shared
        self._futures: list[Future[Any]] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = self._shared.submit(fn, *args, **kwargs)
        self._futures.append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future in self._futures:
                future.cancel()
        if wait:
            wait_for(self._futures)


def executor(engine: str, max_concurrency: int, lanes: Executor | None = None, name: str = "fastmpu") -> Executor:
    """The executor behind an engine's name, in threads of its own, called `name`, or in the job's `lanes`; whoever
    calls shuts it down."""
    if engine == "inline":
        return InlineExecutor()
    if lanes is not None:
        return Lanes(lanes)
    return ThreadPoolExecutor(max_workers=max_concurrency, thread_name_prefix=name)


def submit_or_do(workers: Executor, call: Callable[[], object]) -> None:
    """`call` is called once: by one of the workers, or here, where they have no thread for it."""
    claim = threading.Lock()

    def once() -> None:
        if claim.acquire(blocking=False):
            call()

    try:
        workers.submit(once)
    except RuntimeError:  # raised before it is in their queue (they are shut down), or after (no thread can be started)
        once()
