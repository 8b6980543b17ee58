"""What one exchange is told (`Limits`), what it leaves behind (`Exchange`), and how anything here waits.

No threads and no locks: an `Exchange` is written by the thread that runs the request; another one may read it, and then
sees each field as it was last written.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

CANCEL_CHECK_SECONDS: Final = 0.05
# poll(2) counts milliseconds in an int; longer waits are made of several of these.
LONGEST_NAP_SECONDS: Final = 3600.0


class CancelFlag(Protocol):
    """What `request.extensions["cancel"]` has to be; `threading.Event` is one."""

    def is_set(self) -> bool: ...


class Cancelled(Exception):
    """The request's cancel flag was set. Its `Exchange` tells what the server may have seen and whether it answered."""


class Stalled(Exception):
    """One of the exchange's clocks ran out. Never leaves the package: the border makes it a timeout of httpx."""


class Phase(enum.Enum):
    """What an exchange was doing when it failed; its value is how messages put it."""

    CONNECT = "connecting"
    SEND = "sending the request"
    BODY = "taking the body from its source"
    WAIT = "waiting for the answer"
    READ = "reading the answer"


@dataclass(slots=True)
class Exchange:
    """What became of one request, exact also when an exception was raised. Use a new one for every request.

    Give it as `request.extensions["exchange"]`; the transport fills it while it works. Over TLS a record is the unit:
    of a record that is only partly in the kernel nothing is counted, and the peer can read nothing of it either.
    """

    head_sent: bool = False
    """The kernel took at least a byte of the request. False: the server cannot have seen anything."""
    handed: int = 0
    """Body bytes that the kernel took (without chunk framing); not those that the server read."""
    answered: bool = False
    """The head of a final answer arrived and made sense, in time or within the fence."""
    status: int | None = None
    """That answer's status, also where an exception is raised in its stead."""
    reused: bool = False
    """The connection had served a request before, so its peer may have closed it meanwhile."""
    half_closed: bool = False
    """The fence ended our half of the connection (protocol H3)."""
    resent: int = 0
    """How often the request was sent again after an answer, as with another token."""
    began: float = field(default=0.0, compare=False)
    """Monotonic seconds, as the next three: when a connection was asked for; 0.0 for what has not come to pass."""
    last_sent: float = field(default=0.0, compare=False)
    """The kernel had taken the last byte, or the answer had come first."""
    answered_at: float = field(default=0.0, compare=False)
    """The head of the answer was there."""
    source_seconds: float = field(default=0.0, compare=False)
    """Spent in the body, on reading and hashing what was to be sent."""

    def clear(self) -> None:
        """As new, but for `resent`: for a request that is sent once more after its answer."""
        self.resent += 1
        self.head_sent = self.answered = self.reused = self.half_closed = False
        self.handed, self.status = 0, None
        self.last_sent = self.answered_at = 0.0


class Limits(NamedTuple):
    """Clocks in seconds, `math.inf` for none, and the ways to end an exchange early."""

    connect: float = math.inf
    """TCP and TLS together. Looking up a name is the system's and cannot be bounded."""
    write: float = math.inf
    """The longest time without the kernel taking a byte."""
    read: float = math.inf
    """The longest wait for the next bytes of the answer."""
    fence: float = 0.0
    """How long to wait for an answer after the half-close; 0 for no fence."""
    cancel: CancelFlag | None = None
    progress: tuple[float, float] | None = None
    """Bytes a second, on average over so many seconds, below which a request counts as stalled while it is sent."""

    @classmethod
    def of(cls, extensions: Mapping[str, Any]) -> Limits:
        """From a request's extensions: httpx's `timeout`, and ours: `fence`, `cancel` and `progress`."""
        timeout = extensions.get("timeout") or {}
        connect, write, read = timeout.get("connect"), timeout.get("write"), timeout.get("read")
        return cls(
            math.inf if connect is None else connect,
            math.inf if write is None else write,
            math.inf if read is None else read,
            extensions.get("fence") or 0.0,
            extensions.get("cancel"),
            extensions.get("progress"),
        )


def wait_until(until: float, cancel: CancelFlag | None, poll: Callable[[float], int]) -> int:
    """What `poll(seconds)` says once it is not 0.

    `until` is monotonic seconds. Raises `Stalled` when it has passed, `Cancelled` at most 50 ms after the flag is set.
    """
    while True:
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled on request")
        left = until - monotonic()
        nap = max(0.0, min(left, LONGEST_NAP_SECONDS if cancel is None else CANCEL_CHECK_SECONDS))
        ready = poll(nap)
        if ready:
            return ready
        if left <= 0:
            raise Stalled
