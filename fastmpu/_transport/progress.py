"""`ProgressClock`: tells a stalled request from a slow one.

A peer that takes a byte now and then gets past a clock that only measures silence. Here what counts is the average over
a window. The clock is looked at only where a send would block, so that it costs a fast request nothing.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from .exchange import Stalled

LOOKS: Final = 10  # in a window, so that the end of progress is noticed at most a tenth of a window late


class ProgressClock:
    """`rate` bytes a second on average over `seconds`, for one request; belongs to the thread that runs it.

    Bytes count as moved when the peer's kernel has acknowledged them, where the stream can tell: what lies in our own
    kernel's buffer, which takes megabytes at a time from a fast sender, has not moved.
    """

    def __init__(self, rate: float, seconds: float):
        self.due = -math.inf
        """Monotonic seconds: no need to look before."""
        self._rate = rate
        self._seconds = seconds
        self._looks: deque[tuple[float, int]] = deque()

    @property
    def is_new(self) -> bool:
        """Nobody has looked yet."""
        return not self._looks

    def look(self, now: float, moved: int) -> bool:
        """At `now`, `moved` bytes of the request in all. Raises `Stalled`; says whether any moved since the last
        look."""
        self.due = now + self._seconds / LOOKS
        looks = self._looks
        went_on = not looks or moved > looks[-1][1]
        looks.append((now, moved))
        while len(looks) > 2 and looks[1][0] <= now - self._seconds:
            looks.popleft()
        then, before = looks[0]
        if now - then >= self._seconds and moved - before < self._rate * (now - then):
            speed = (moved - before) / (now - then)
            raise Stalled(f"stalled at {speed:,.0f} bytes a second over {now - then:.3g} s (limit {self._rate:,.0f})")
        return went_on
