"""What every checksum looks like, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Digest:
    """A finished checksum as AIStore writes it: `Ais-Checksum-Type` and `Ais-Checksum-Value`, lower-case hex."""

    type: str
    value: str

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


class Checksum(Protocol):
    """Eats bytes in order. One thread at a time; `update` lets go of the GIL for windows of 128 KiB and more."""

    @property
    def name(self) -> str:
        """AIStore's name of the kind, to be sent as `ais-checksum-type`."""

    def update(self, view: memoryview) -> None:
        """Add these bytes. They are read before it returns and not kept."""

    def hexdigest(self) -> str:
        """The value over everything so far, lower-case, in full width; more may follow."""
