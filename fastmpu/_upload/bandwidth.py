"""`Bandwidth`: one limit, in bytes a second, for all bodies of a job.

Any thread, and any process that was given `fileno`. What they share is one number, the time at which the line is free
again; who takes bytes moves it on by the time that they need, under a lock of its process's threads and a record lock
among the processes. Whoever took them waits outside of both.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from .._sizes import KiB
from .._transport import pause
from .cancel import SLICE, CancelEvent
from .shared_memory import shared_memory

# Seconds that one piece takes: so much goes out at once; a limit holds on average over many.
PIECE_SECONDS: Final = 0.02
# What an idle line saves up, at most, so that a thread that wakes up late makes good for it.
SAVED_SECONDS: Final = 0.05
LEAST_PIECE: Final = 16 * KiB
_TIME: Final = struct.Struct("d")


class Bandwidth:
    """`rate` bytes a second. `fileno` is another process's, to share the limit with; `close()` ends this one's part.

    Turns are given in the order of asking, so that every connection gets its share.
    """

    def __init__(self, rate: float, fileno: int | None = None):
        self.rate = rate
        if fileno is None:
            fileno = shared_memory(mmap.PAGESIZE)
        self.fileno = fileno
        self._free_at = mmap.mmap(fileno, _TIME.size)
        self._lock = threading.Lock()

    @property
    def piece(self) -> int:
        """Bytes to take at a time, at most: more would come in bursts."""
        return max(LEAST_PIECE, int(self.rate * PIECE_SECONDS))

    def take(self, count: int, now: float) -> float:
        """The line is ours for `count` bytes; the seconds from `now` (monotonic) until it is free."""
        with self._lock:
            fcntl.lockf(self.fileno, fcntl.LOCK_EX)  # held for some microseconds; gone with a process that dies
            try:
                (free_at,) = _TIME.unpack_from(self._free_at)
                start = max(free_at, now - SAVED_SECONDS)
                _TIME.pack_into(self._free_at, 0, start + count / self.rate)
            finally:
                fcntl.lockf(self.fileno, fcntl.LOCK_UN)
        return float(start - now)

    def wait(self, count: int, cancel: CancelEvent) -> float:
        """Take, and wait until it is our turn or the flag is up; the seconds that took."""
        began = time.monotonic()
        until = began + self.take(count, began)
        while (left := until - time.monotonic()) > 0 and not cancel.is_set():
            pause(min(left, SLICE))
        return time.monotonic() - began

    def close(self) -> None:
        """Twice is fine."""
        if self.fileno >= 0:
            self._free_at.close()
            os.close(self.fileno)
            self.fileno = -1


Pace = tuple[int, Callable[[int], float]]


def pace_of(bandwidth: Bandwidth | None, cancel: CancelEvent) -> Pace | None:
    """For a body: how many bytes at most, and what to call with their number before they go."""
    return None if bandwidth is None else (bandwidth.piece, partial(bandwidth.wait, cancel=cancel))
