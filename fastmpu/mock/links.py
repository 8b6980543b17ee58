"""A model of the network between clients and the cluster, for trials of what distance and narrow lines do.

It is a model of two things: how long a round trip takes, and how many bytes a second pass. A new connection pays a
round trip, one under TLS the handshake's as well (1 for TLS 1.3, 2 for 1.2), and then every answer pays one before its
first byte; an interim `100 Continue` is an answer. Bytes pass in each direction at the rate of the connection and of
the node, whichever is scarcer; nodes share nothing. Jitter lengthens each round trip by up to so many seconds; two runs
with one seed draw the same for a node's n-th connection.

What it is not: no packet is lost or reordered, no congestion window grows, the connection's own `connect` returns at
once, and the kernel takes what fits in its buffers before the rate holds the sender back. Speeds over a real long line
are lower until its windows have opened. Without a link the mock does nothing of this, and pays nothing for it.

Threads: a `Lane` belongs to the thread that serves its connection; `stop` may be called by any. The throttles of a node
are shared by its connections, each under its own lock.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Lane", "Link", "NodeLink", "Throttle"]

_BURST = 0.02  # seconds of its rate that an idle line has saved up
_STEP = 0.05  # seconds of its rate that pass at once: the finer, the smoother
_STEP_LIMITS = (1 << 10, 1 << 20)
_BUFFER = 0.1  # seconds of its rate that wait in the kernel's receive buffer
_BUFFER_LIMITS = (16 << 10, 4 << 20)


@dataclass(frozen=True)
class Link:
    """The line to every node. Times are seconds, rates bytes a second in each direction; None: as fast as it goes."""

    round_trip: float = 0.0
    bandwidth_per_connection: float | None = None
    bandwidth_per_node: float | None = None
    jitter: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.round_trip < 0 or self.jitter < 0:
            raise ValueError(f"round_trip and jitter are seconds, 0 or more, not {self.round_trip} and {self.jitter}")
        for name in ("bandwidth_per_connection", "bandwidth_per_node"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} is in bytes a second, more than 0, or None, not {rate}")


class Throttle:
    """A token bucket: books bytes, and tells how long their sender or reader has to wait."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = float("-inf")  # when all that is booked has passed

    def take(self, size: int) -> float:
        """Book `size` bytes; the seconds until they have passed."""
        now = self._clock()
        with self._lock:
            self._free_at = max(self._free_at, now - _BURST) + size / self._rate
            return max(0.0, self._free_at - now)


class Lane:
    """One connection's share of the line."""

    def __init__(self, link: Link, generator: random.Random, inward: list[Throttle], outward: list[Throttle]) -> None:
        self._link = link
        self._generator = generator
        self._inward, self._outward = inward, outward
        self._stopped = threading.Event()
        self._asked = False  # bytes have come since the last answer
        rates = [rate for rate in (link.bandwidth_per_connection, link.bandwidth_per_node) if rate is not None]
        self.step = _within(_STEP_LIMITS, min(rates) * _STEP) if rates else _STEP_LIMITS[1]
        self.receive_buffer = _within(_BUFFER_LIMITS, min(rates) * _BUFFER) if rates else 0  # bytes; 0: the system's

    def travel(self) -> None:
        """Wait for one round trip. ConnectionError if the connection ends meanwhile."""
        self._wait(self._link.round_trip + self._generator.uniform(0.0, self._link.jitter))

    def received(self, size: int) -> None:
        self._asked = True
        self._wait(max((throttle.take(size) for throttle in self._inward), default=0.0))

    def sending(self, size: int) -> None:
        """Before bytes go out; before the first of an answer they wait for the round trip."""
        if self._asked:
            self._asked = False
            self.travel()
        self._wait(max((throttle.take(size) for throttle in self._outward), default=0.0))

    def stop(self) -> None:
        """Wake the owner out of its wait."""
        self._stopped.set()

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self._stopped.wait(seconds):
            raise ConnectionAbortedError("the node stops")


class NodeLink:
    """The line to one node."""

    def __init__(self, link: Link, node: str) -> None:
        """`node` names the node within its cluster, the same in every run."""
        self._link = link
        self._node = node
        self._lock = threading.Lock()
        self._connections = 0
        rate = link.bandwidth_per_node
        self._throttles: list[list[Throttle]] = [[Throttle(rate)] if rate else [] for _ in range(2)]

    def lane(self) -> Lane:
        """The share of a new connection."""
        with self._lock:
            self._connections += 1
            generator = random.Random(f"{self._link.seed} {self._node} {self._connections}")
        rate = self._link.bandwidth_per_connection
        inward, outward = (shared + ([Throttle(rate)] if rate else []) for shared in self._throttles)
        return Lane(self._link, generator, inward, outward)


def _within(limits: tuple[int, int], value: float) -> int:
    return min(max(int(value), limits[0]), limits[1])
