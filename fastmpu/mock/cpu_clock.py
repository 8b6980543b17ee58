"""What a cluster costs: CPU seconds of its threads.

Threads: each books its own time; any may ask for the sum.
"""

from __future__ import annotations

import threading
import time

__all__ = ["CpuClock"]


class CpuClock:
    """CPU seconds spent by many threads, those that have ended included."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = 0.0
        self._running: dict[int, float] = {}

    def tick(self) -> None:
        """Book the calling thread's time so far."""
        self._running[threading.get_ident()] = time.thread_time()

    def end(self) -> None:
        """Book the calling thread's time for good: its identity will be given to another."""
        with self._lock:
            self._running.pop(threading.get_ident(), None)
            self._ended += time.thread_time()

    @property
    def seconds(self) -> float:
        with self._lock:
            return self._ended + sum(list(self._running.values()))
