"""How long the network may take for what: one frozen value for all requests of a client."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import UsageError

KiB = 1024


@dataclass(frozen=True)
class Timeouts:
    """Seconds; `math.inf` for no limit. `connect`: TCP and TLS. `write`: longest time in which the network takes
    nothing. `response`: longest silence after the request went out. `response_per_gib` is added to `response` for each
    GiB of the body, since a target may still be writing a large part to disk. `fence`: how long an attempt without an
    answer is half-closed and listened to.

    A request has stalled when, while its body is sent, the peer takes less than `stall_bytes_per_second` on average
    over `stall_seconds`: a trickle would get past every other clock. It is noticed within 1.2 times `stall_seconds`.
    """

    connect: float = 5.0
    write: float = 30.0
    response: float = 60.0
    response_per_gib: float = 60.0
    fence: float = 2.0
    stall_bytes_per_second: float = 16 * KiB
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0 if each.name in _MAY_BE_ZERO else math.ulp(0.0)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
                above = "at least 0" if least == 0 else "above 0"
                raise UsageError(
                    f"Timeouts({each.name}={value!r}): it must be a number {above} (math.inf for no limit)"
                )

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Timeouts:
        """The defaults, but for what `AIS_CONNECT_TIMEOUT` and `AIS_READ_TIMEOUT` say: seconds, 0 for no limit."""
        given = {field: environment.get(name, "").strip() for name, field in _VARIABLES.items()}
        return cls(**{field: _seconds(field, text) for field, text in given.items() if text})

    def for_answer(self, length: int) -> float:
        """The longest silence after a request with so many bytes of body."""
        return self.response + self.response_per_gib * length / (1 << 30)

    def for_body(self, length: int) -> dict[str, float | None]:
        """In httpx's own terms."""
        read = self.for_answer(length)
        clocks = {"connect": self.connect, "write": self.write, "read": read, "pool": self.connect}
        return {name: None if clock == math.inf else clock for name, clock in clocks.items()}

    @property
    def progress(self) -> tuple[float, float] | None:
        """For the transport: bytes a second, and over how many seconds; None if there is no such limit."""
        if self.stall_seconds == math.inf or not self.stall_bytes_per_second:
            return None
        return self.stall_bytes_per_second, self.stall_seconds


_MAY_BE_ZERO = ("response_per_gib", "fence", "stall_bytes_per_second")
_VARIABLES = {"AIS_CONNECT_TIMEOUT": "connect", "AIS_READ_TIMEOUT": "response"}


def _seconds(field: str, text: str) -> float:
    read: Callable[[Any], float] = float
    try:
        value = read(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        name = next(name for name, other in _VARIABLES.items() if other == field)
        raise UsageError(f"{name}={text!r}: it must be a number of seconds, or 0 for no limit")
    return value or math.inf
