"""One flag for all reasons to stop: the caller's own event, our first failure, the deadline.

Any thread. The flag only ever goes up.
"""

from __future__ import annotations

import math
import time
from typing import Final, Protocol

from .._transport import pause

SLICE: Final = 0.05  # seconds between looks at the flag, which wakes nobody


class CancelEvent(Protocol):
    """What a caller may pass as `cancel`; `threading.Event` is one."""

    def is_set(self) -> bool: ...


class CancelFlag:
    """`requested` and `overdue` tell why, for the error."""

    def __init__(self, event: CancelEvent | None, deadline: float | None):
        self._event = event
        self._until = math.inf if deadline is None else time.monotonic() + deadline
        self._own = False

    @property
    def requested(self) -> bool:
        """The caller's event is set."""
        return self._event is not None and self._event.is_set()

    @property
    def overdue(self) -> bool:
        return time.monotonic() > self._until

    @property
    def interval(self) -> float | None:
        """How often somebody should look; None: nothing from outside can raise the flag."""
        return None if self._event is None and self._until == math.inf else SLICE

    def set(self) -> None:
        """Stop, for a reason of our own."""
        self._own = True

    def is_set(self) -> bool:
        # Asked before each window and at each wait.
        return (
            self._own
            or (self._event is not None and self._event.is_set())
            or (self._until < math.inf and time.monotonic() > self._until)
        )

    def wait(self, seconds: float) -> bool:
        """Sleep that long, or until the flag is up, which is seen a `SLICE` late; whether it is."""
        until = time.monotonic() + seconds
        while not self.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return False
            pause(min(left, SLICE))
        return True
