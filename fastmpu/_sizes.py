"""Sizes in bytes, as people write them: `64MiB` is 64 x 2^20, `64MB` is 64 x 10^6, a bare `64M` means MiB."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

KiB: Final = 1 << 10
MiB: Final = 1 << 20
GiB: Final = 1 << 30
TiB: Final = 1 << 40

_FACTORS: Final = {
    "": 1,
    "K": KiB, "KI": KiB, "M": MiB, "MI": MiB, "G": GiB, "GI": GiB, "T": TiB, "TI": TiB,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": KiB, "MIB": MiB, "GIB": GiB, "TIB": TiB,
    "B": 1,
}  # fmt: skip
_SIZE: Final = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)


def parse_size(value: int | str, name: str) -> int:
    """Bytes in `value`; `name` is the option it was given for, so that the error can say so.

    Raises ValueError for anything that is no size; zero and negative numbers pass, since only the caller knows whether
    they make sense.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    factor = _FACTORS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{name}={value!r} is not a size: give bytes or a number with a unit, as in 67108864 or '64MiB'"
        )
    whole, _, fraction = match[1].partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * factor // scale  # exact, then cut to full bytes


@lru_cache(maxsize=256)
def format_size(count: float) -> str:
    """`count` bytes for a person, to two digits after the point: `1.5 GiB`, `64 MiB`, `12 B`."""
    for unit, factor in (("TiB", TiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB)):
        # What would round up to 1024 of the smaller unit is one of this.
        if round(abs(count) / factor * KiB, 2) >= KiB and abs(count) >= KiB:
            number = f"{count / factor:.2f}".rstrip("0").removesuffix(".")
            return f"{number} {unit}"
    return f"{int(count)} B"
