"""Whether to try again, and when: one frozen policy, asked with facts. It never sleeps itself.

Only answered failures come here. A part without an answer is never sent again (protocol H1, H2), so it has no policy.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..errors import ChecksumRefusedError, ClusterError, RateLimitedError, UnavailableError, UsageError


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` in all; waits grow from `base` to `cap` seconds, doubled each time, with full jitter."""

    attempts: int = 5
    base: float = 0.2
    cap: float = 15.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base < 0 or self.cap < self.base:
            raise UsageError(f"{self!r}: needs attempts >= 1 and 0 <= base <= cap")

    def delay(self, attempt: int, error: ClusterError) -> float | None:
        """Seconds to wait after the `attempt`-th try (from 1) failed with `error`; None: give up."""
        if attempt >= self.attempts or not _is_passing(error):
            return None
        return random.uniform(0, min(self.cap, self.base * 2.0 ** (attempt - 1)))


def _is_passing(error: ClusterError) -> bool:
    """Failures that another try may not meet again (protocol 2, the table of statuses)."""
    return isinstance(error, (RateLimitedError, UnavailableError, ChecksumRefusedError)) or error.status == 500
