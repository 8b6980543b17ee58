"""One thread at a time, in an order that a seed decides: the interleavings of an upload, to be had again.

A worker's thread stops before and after each of its requests; the producer stops where it waits for an outcome. Whoever
is to go on is drawn. So the producer and its workers never run at the same time, and if nobody can go on while the
producer waits, that is a deadlock, which fails at once instead of hanging.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty
from typing import Any

import httpx
from interposer import Interposer

PATIENCE = 20.0  # seconds; a worker that needs longer between two stops waits for somebody who stands still


class Deadlock(AssertionError):
    """The producer waits, and there is nobody to wait for."""


class _Worker:
    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.go = threading.Semaphore(0)
        self.begun = False
        self.thread: threading.Thread | None = None


class Schedule:
    """The order of one upload. Its `executor` and `queue` are given to the pipeline, `stop` is the wire's."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.steps = 0
        self.on_step: Callable[[], object] | None = None
        self._workers: list[_Worker] = []
        self._back = threading.Semaphore(0)
        self._here = threading.local()

    def executor(self, engine: str, max_concurrency: int, lanes: Executor | None = None) -> Executor:
        return _Drawn(self)

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        worker = _Worker()

        def run() -> None:
            self._here.worker = worker
            worker.go.acquire()
            if worker.future.set_running_or_notify_cancel():
                try:
                    worker.future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - kept in the future, as every executor does
                    worker.future.set_exception(error)
            self._back.release()

        worker.thread = threading.Thread(target=run, name="scheduled")
        worker.thread.start()
        self._workers.append(worker)
        return worker.future

    def stop(self) -> None:
        """A worker waits until it is drawn; anybody else goes on."""
        worker = getattr(self._here, "worker", None)
        if worker is not None:
            self._back.release()
            worker.go.acquire()

    def step(self) -> bool:
        """Let one worker go on to its next stop; False if there is none."""
        self._workers = [worker for worker in self._workers if worker.thread and worker.thread.is_alive()]
        waiting = [worker for worker in self._workers if not worker.future.done() or not worker.begun]
        if not waiting:
            return False
        self.steps += 1
        if self.on_step is not None:
            self.on_step()
        worker = self.random.choice(waiting)
        worker.begun = True
        worker.go.release()
        if not self._back.acquire(timeout=PATIENCE):
            raise Deadlock("a worker waits for one that stands still")
        if worker.future.done() and worker.thread:
            worker.thread.join()
        return True

    def finish(self, cancel: bool) -> None:
        for worker in self._workers:
            if cancel and not worker.begun:
                worker.future.cancel()
        while self.step():
            pass


class _Drawn(Executor):
    def __init__(self, schedule: Schedule):
        self._schedule = schedule

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._schedule.submit(lambda: fn(*args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        assert wait
        self._schedule.finish(cancel_futures)


class DrawnQueue:
    """`SimpleQueue` for the producer: waiting lets the workers go on, and looking may let some go on first."""

    def __init__(self, schedule: Schedule):
        self._schedule = schedule
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self, timeout: float | None = None) -> Any:
        while self._schedule.random.random() < 0.5 and self._schedule.step():
            pass
        while not self._items:
            if not self._schedule.step():
                raise Deadlock("the producer waits, and nobody is at work")
            if timeout is not None and self._schedule.random.random() < 0.2:
                raise Empty
        return self._items.popleft()


class DrawnWire(Interposer):
    """Stops before and after each request of a worker's."""

    schedule: Schedule | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.schedule is not None:
            self.schedule.stop()
        try:
            return super().handle_request(request)
        finally:
            if self.schedule is not None:
                self.schedule.stop()
