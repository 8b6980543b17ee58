"""Whether to try again, and when: one frozen policy, asked with facts, and a budget against storms. Neither sleeps.

Only failures that leave no doubt come here: nothing was processed, or AIStore refused in so many words. A part without
an answer is never sent again on a policy's word (protocol H1, H2); see fence.py.
"""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass

from ..ais.failure import Failure
from ..errors import UsageError

LONGEST_RETRY_AFTER = 120.0  # seconds; a gateway that asks for more is not waited for so long


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` in all; waits grow from `base` to `cap` seconds, doubled each time, with full jitter."""

    attempts: int = 5
    base: float = 0.2
    cap: float = 15.0

    def __post_init__(self) -> None:
        if not (self.attempts >= 1 and 0 <= self.base <= self.cap < math.inf):  # NaN fails, too
            raise UsageError(f"{self!r}: needs attempts >= 1 and 0 <= base <= cap")

    def delay(self, attempt: int, failure: Failure, retry_after: float | None = None) -> float | None:
        """Seconds to wait after the `attempt`-th try (from 1) ended in `failure`; None: give up. `retry_after` is what
        the answer asked for."""
        if attempt >= self.attempts or failure not in (Failure.PASSING, Failure.NEVER_PROCESSED):
            return None
        if retry_after is not None:
            return min(retry_after, LONGEST_RETRY_AFTER)
        return random.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 1000)))  # 2.0 ** 1024 overflows


class RetryBudget:
    """How many retries a whole upload may spend: 10 and a tenth of its requests, so that a sick cluster is not stormed.

    Any thread; one lock.
    """

    FREE = 10
    SHARE = 0.1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._spent = 0

    def request(self) -> None:
        with self._lock:
            self._requests += 1

    def spend(self) -> bool:
        """Whether one more retry is within the budget."""
        with self._lock:
            if self._spent >= self.FREE + self.SHARE * self._requests:
                return False
            self._spent += 1
            return True
