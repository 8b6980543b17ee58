"""What bytes add up to: checksums over windows of a part, and the object's own put together from its parts'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import UsageError
from .base import Checksum, Digest
from .crc32c import Crc32c, combine, combine_all
from .secure import Md5, Sha256, Sha512
from .xxhash import XXH3, XXH64

__all__ = ["Checksum", "Crc32c", "Digest", "combine", "combine_all", "new_checksum"]

# Keyed by AIStore's own names, but for `xxh3`, which AIStore does not know. `xxhash` and `xxhash2` are the same there.
_KINDS: Final[dict[str, Callable[[], Checksum]]] = {
    "crc32c": Crc32c,
    "xxhash": lambda: XXH64("xxhash"),
    "xxhash2": lambda: XXH64("xxhash2"),
    "xxh3": XXH3,
    "md5": Md5,
    "sha256": Sha256,
    "sha512": Sha512,
}


def new_checksum(name: str) -> Checksum:
    """A fresh checksum of the kind AIStore calls `name`; UsageError lists the kinds there are."""
    kind = _KINDS.get(name)
    if kind is None:
        raise UsageError(f"checksum={name!r} is not known: choose one of {', '.join(_KINDS)}")
    return kind()
