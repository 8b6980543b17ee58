"""How many requests may be in flight right now: halved when the cluster says it is too much, recovered step by step.

Any thread; one lock. Workers report, the producer asks before it starts a part.
"""

from __future__ import annotations

import threading
from typing import Final

RECOVER_AFTER: Final = 20  # successes for one more in flight (reliability 2B)


class Throttle:
    """Between 1 and `most` in flight."""

    def __init__(self, most: int):
        self._most = most
        self._limit = most
        self._successes = 0
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        with self._lock:
            return self._limit

    def too_much(self) -> None:
        """The cluster answered 429 or 503."""
        with self._lock:
            self._limit = max(1, self._limit // 2)
            self._successes = 0

    def went_well(self) -> None:
        with self._lock:
            self._successes += 1
            if self._successes >= RECOVER_AFTER and self._limit < self._most:
                self._limit += 1
                self._successes = 0
