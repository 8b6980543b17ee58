"""Which target owns an object: AIStore's highest random weight (protocol 6). Pure arithmetic.

Computed to check a redirect against, never to go without one: the proxy's word and ours, made of its map, have to
agree where nobody looks at the object afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import xxhash

T = TypeVar("T")

_SEED: Final = 1103515245  # XXH64's, for names and node ids; checksums have another (protocol 4.1)
_WORD: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15


def name_digest(provider: str, namespace: str, bucket: str, name: str) -> int:
    """Of an object's unique name; `namespace` as in URIs, "" for the global one."""
    unique = f"{provider}/{namespace or '@#'}/{bucket}/{name}"
    return xxhash.xxh64_intdigest(unique.encode("utf-8", "surrogateescape"), seed=_SEED)


def owner(candidates: Iterable[tuple[int, T]], digest: int) -> T:
    """The one of (node digest, node) that wins the name; ValueError if there is none."""
    return max(candidates, key=lambda one: _weight(one[0] ^ digest))[1]


def _weight(seed: int) -> int:
    drawn = 5 * _mixed((_mixed((seed + _GAMMA) & _WORD) + _GAMMA) & _WORD) & _WORD
    rotated = (drawn << 7 | drawn >> 57) & _WORD
    return 9 * rotated & _WORD


def _mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)
