"""How far an upload is, as events. Nothing is printed here.

Owner: the thread that called `upload()`; it alone calls `ProgressMeter` and the user's function. Any other may take a
`snapshot`, of numbers that are read one by one. What is in flight is read from the transport's records, which the
workers write; an int that is a little old does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger("fastmpu")

INTERVAL = 0.1  # seconds between events, at least; ten a second is more than an eye can follow


@dataclass(frozen=True)
class ProgressEvent:
    """`total`, `sent`, `acked` in bytes; the latter two never go back. `sent` has left this process, `acked` was
    acknowledged by the cluster; both begin at `resumed`, what an earlier job had stored, which no rate should count.
    `stage`: "waiting" (for its turn in an Uploader), "send", "complete", "verify" or "done". `elapsed` in seconds.
    """

    total: int
    sent: int
    acked: int
    stage: str
    elapsed: float
    resumed: int = 0
    files_done: int = 0
    files_total: int = 1


OnProgress = Callable[[ProgressEvent], object]


class Sender(Protocol):
    """Who sends, as far as progress has to know."""

    @property
    def under_way(self) -> int:
        """Bytes of requests in flight that the kernel has taken."""


class ProgressMeter:
    """Tells `on_progress`: at most ten times a second, at each new stage, and at the end."""

    def __init__(self, total: int, on_progress: OnProgress | None):
        self.sender: Sender | None = None
        """Who sends now, and None when it has ended: it knows this meter, and a circle would keep the source's bytes
        until the collector comes."""
        self._total = total
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._next = 0.0
        self._acked = 0
        self._sent = 0
        self._told = 0
        self._resumed = 0
        self._stage = "send"

    @property
    def interval(self) -> float | None:
        """How often `tick` is wanted, in seconds; None: not at all."""
        return INTERVAL if self._on_progress is not None else None

    def taken_over(self, length: int) -> None:
        """So much was stored before this job."""
        self._resumed += length
        self._acked += length

    def acknowledged(self, length: int) -> None:
        self._acked += length
        self.tick()

    def restart(self) -> None:
        """Everything is sent again; what was told stays told."""
        self._acked = self._resumed = 0
        self.enter("send")

    def enter(self, stage: str) -> None:
        self._stage = stage
        self._next = 0.0
        self.tick()

    def snapshot(self) -> ProgressEvent:
        """How far it is. For any thread: it changes nothing."""
        acked, sender = self._acked, self.sender
        under_way = 0 if sender is None else sender.under_way
        return ProgressEvent(
            total=self._total,
            sent=max(self._sent, min(self._total, acked + under_way)),
            acked=max(self._told, acked),
            stage=self._stage,
            elapsed=time.monotonic() - self._began,
            resumed=self._resumed,
            files_done=int(self._stage == "done"),
        )

    def tick(self) -> None:
        now = time.monotonic()
        if self._on_progress is None or now < self._next:
            return
        self._next = now + INTERVAL
        event = self.snapshot()
        self._sent, self._told = event.sent, event.acked
        try:
            self._on_progress(event)
        except Exception:
            logger.exception("the progress function failed and is not called again")
            self._on_progress = None
