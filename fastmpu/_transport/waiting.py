"""How whoever runs a request waits: in the kernel, or, in a thread that has many requests under way, by letting another
of them go on.

Threads: which of the two it is belongs to the thread (`wait_by`), so nobody above or below has to know. Whatever may
wait in here must not hold a lock: the request that goes on meanwhile, in the same thread, may want it. What knows
nothing of this and may wait, as the system's lookup of names, or a user's function, is called `unhindered`.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Waiter(Protocol):
    """Lets others go on in this thread, and comes back when there is a reason to."""

    def ready(self, fd: int, events: int, seconds: float) -> int:
        """The events of poll(2) that have come to pass; 0 after so many seconds."""
        ...

    def pause(self, seconds: float) -> None:
        """Comes back after so many seconds."""
        ...

    def in_another_thread(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises; others go on meanwhile."""
        ...


class _Local(threading.local):
    waiter: Waiter | None = None


_local = _Local()


def waiter() -> Waiter | None:
    """This thread's; None: it waits in the kernel."""
    return _local.waiter


@contextmanager
def wait_by(waiter: Waiter | None) -> Iterator[None]:
    """From here on, in this thread."""
    before, _local.waiter = _local.waiter, waiter
    try:
        yield
    finally:
        _local.waiter = before


def ready(fd: int, events: int, seconds: float) -> int:
    """The events of poll(2) that have come to pass; 0 after so many seconds."""
    waiter = _local.waiter
    if waiter is not None:
        return waiter.ready(fd, events, seconds)
    poll = select.poll()
    poll.register(fd, events)
    return next((come for _, come in poll.poll(seconds * 1000)), 0)


def pause(seconds: float) -> None:
    """Comes back after so many seconds."""
    waiter = _local.waiter
    if waiter is not None:
        waiter.pause(seconds)
    else:
        time.sleep(seconds)


def unhindered(call: Callable[[], T]) -> T:
    """What `call` returns, which may take long, or wait in ways of its own: called here, unless others in this thread
    would have to wait with it."""
    waiter = _local.waiter
    return call() if waiter is None else waiter.in_another_thread(call)
