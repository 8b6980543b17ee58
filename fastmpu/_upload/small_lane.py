"""One thread that has many small objects under way at once.

A small object is some 0.3 ms of Python, with half a dozen short waits for the network in between. Threads that take
turns at it spend more on handing the interpreter to each other, from core to core, than on their work
(docs/performance.md). Here each object is a greenlet: the same code, which waits by `SmallLane.ready` where it would
wait in poll(2), and there the next one goes on.

Threads: "fastmpu-small_0" owns all greenlets and what they wait for, while there are any. Any thread submits. The lock
guards what is submitted, whether the thread is at work, and the bell that wakes it. "fastmpu-read_0" and up do what may
take long: they read what is not in the page cache, look names up, and ask the user's function for a token.

Whatever a greenlet calls and may wait in there must not hold a lock (waiting.py).
"""

from __future__ import annotations

import logging
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from greenlet import getcurrent, greenlet

from .._transport import wait_by
from .workers import Places, submit_or_do

T = TypeVar("T")
Task = Callable[[], object]

LONGEST_WAIT: Final = 3600.0  # seconds; poll(2) counts milliseconds in an int

logger = logging.getLogger("fastmpu")


class SmallLane:
    """Does what is submitted, in order, as many at once as it gets of `places` and while `has_room` says so. Close it
    when nothing is submitted any more."""

    def __init__(self, places: Places, has_room: Callable[[], bool]):
        self._places = places
        self._has_room = has_room
        self._thread = ThreadPoolExecutor(1, "fastmpu-small")
        self._readers = ThreadPoolExecutor(places.most, "fastmpu-read")
        self._lock = threading.Lock()
        self._queue: deque[Task] = deque()
        self._beside: deque[Task] = deque()
        self._back: deque[tuple[greenlet, object]] = deque()  # from another thread, and with what
        self._at_work = False
        self._asleep = False
        self._bell: socket.socket | None = None  # wakes the thread; from the first task on
        # The thread's own:
        self._hub: greenlet | None = None
        self._poll = select.poll()
        self._ear: socket.socket | None = None
        self._by_fd: dict[int, greenlet] = {}
        self._until: dict[greenlet, float] = {}
        self._away: dict[greenlet, object] = {}
        self._running = 0
        places.on_free = self._look_again

    def submit(self, task: Task) -> None:
        """RuntimeError when the interpreter is shutting down, and nothing was submitted."""
        self._give(self._queue, task)

    def beside(self, task: Task) -> None:
        """The same at once, whatever is under way, and without a place."""
        self._give(self._beside, task)

    def _look_again(self) -> None:
        if self._queue:
            self.wake()

    def wake(self) -> None:
        """To look whether there is more to do."""
        if self._asleep:
            with self._lock:
                if self._asleep and self._bell is not None:
                    self._asleep = False
                    self._bell.send(b"!")

    def close(self) -> None:
        """Twice is fine."""
        self._thread.shutdown()
        self._readers.shutdown()
        with self._lock:
            if self._bell is not None and self._ear is not None:
                self._bell.close()
                self._ear.close()
                self._bell = self._ear = None

    def _give(self, queue: deque[Task], task: Task) -> None:
        with self._lock:
            if self._bell is None:
                self._ear, self._bell = socket.socketpair()
                self._poll.register(self._ear, select.POLLIN)
            if not self._at_work:
                self._thread.submit(self._work)
                self._at_work = True
            queue.append(task)
        self.wake()

    # --- the thread's own ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Until there is nothing to do."""
        self._hub = getcurrent()
        with wait_by(self):
            while True:
                try:
                    self._begin()
                    with self._lock:
                        if not (self._running or self._queue or self._beside):
                            self._at_work = False
                            return
                    self._wait()
                except BaseException as error:  # nothing known ends here; but nobody is to wait for ever
                    logger.exception("fastmpu: what waits for the network in one thread has failed")
                    for each in list(self._until):
                        each.throw(RuntimeError(f"waiting for the network failed: {error!r}"))

    def _begin(self) -> None:
        """What may begin."""
        while self._beside:
            greenlet(self._do, self._hub).switch(self._beside.popleft())
        while self._queue and self._has_room() and self._places.try_take():
            greenlet(self._do_several, self._hub).switch()

    def _do_several(self) -> None:
        """One after the other, in one place, as long as no thread waits for one."""
        try:
            while self._queue and self._has_room():
                self._do(self._queue.popleft())
                if self._places.are_wanted:
                    break
        finally:
            self._places.give_back()

    def _do(self, task: Task) -> None:
        self._running += 1
        try:
            task()
        except BaseException:
            logger.exception("fastmpu: a task that keeps its own errors has raised one")
        finally:
            self._running -= 1

    def _wait(self) -> None:
        """For whatever comes first; then those go on who waited for it."""
        now = time.monotonic()
        left = max(0.0, min(LONGEST_WAIT, min(self._until.values(), default=math.inf) - now))
        self._asleep = True
        if self._back or self._beside or (self._queue and self._has_room() and self._places.are_left):
            left = 0.0  # came before it could wake us
        happened = self._poll.poll(math.ceil(left * 1000))
        self._asleep = False
        for fd, events in happened:
            if fd in self._by_fd:
                self._by_fd[fd].switch(events)
            elif self._ear is not None:
                self._ear.recv(1 << 12)
        while self._back:
            each, done = self._back.popleft()
            if self._away.get(each) is done:
                each.switch(0)
        now = time.monotonic()
        for each in [each for each, until in self._until.items() if until <= now]:
            if each in self._until:
                each.switch(0)

    # --- for the greenlets (waiting.py) -------------------------------------------------------------------------------

    def ready(self, fd: int, events: int, seconds: float) -> int:
        me = getcurrent()
        self._by_fd[fd] = me
        self._poll.register(fd, events)
        try:
            return self._sleep(me, seconds)
        finally:
            self._poll.unregister(fd)
            del self._by_fd[fd]

    def pause(self, seconds: float) -> None:
        self._sleep(getcurrent(), seconds)

    def in_another_thread(self, call: Callable[[], T]) -> T:
        me, ours = getcurrent(), threading.get_ident()
        future: Future[T] = Future()
        here = False

        def run() -> None:
            nonlocal here
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - the caller's
                future.set_exception(error)
            if threading.get_ident() == ours:
                here = True  # there is no other
            else:
                self._back.append((me, future))
                self.wake()

        self._away[me] = future
        try:
            submit_or_do(self._readers, run)
            if not here:
                self._sleep(me, math.inf)
        finally:
            del self._away[me]
        return future.result()

    def _sleep(self, me: greenlet, seconds: float) -> int:
        self._until[me] = time.monotonic() + seconds
        try:
            assert self._hub is not None
            events: int = self._hub.switch()
            return events
        finally:
            del self._until[me]
