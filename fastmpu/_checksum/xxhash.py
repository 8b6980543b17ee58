"""XXH64 and XXH3 by the C package `xxhash`.

Its `update` releases the GIL from 64 KiB upwards (measured: two threads over windows of 1 MiB reach 1.8 times the speed
of one with XXH64 and 1.6 times with XXH3; a test proves it for 128 KiB).
"""

from __future__ import annotations

from typing import Literal

import xxhash


class XXH64:
    """AIStore's `xxhash` and `xxhash2`, which are both XXH64 with seed 0: 16 hex digits, big-endian."""

    def __init__(self, name: Literal["xxhash", "xxhash2"] = "xxhash") -> None:
        self.name = name
        self._state = xxhash.xxh64(seed=0)

    def update(self, view: memoryview) -> None:
        self._state.update(view)

    def hexdigest(self) -> str:
        return self._state.hexdigest()


class XXH3:
    """XXH3 in 64 bits, seed 0: about three times as fast as XXH64. AIStore does not know it, so it serves local checks
    only.
    """

    name = "xxh3"

    def __init__(self) -> None:
        self._state = xxhash.xxh3_64(seed=0)

    def update(self, view: memoryview) -> None:
        self._state.update(view)

    def hexdigest(self) -> str:
        return self._state.hexdigest()
