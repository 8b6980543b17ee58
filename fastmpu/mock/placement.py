"""Which target owns an object: the highest random weight among the nodes of the cluster map (protocol 6).

A name and a node are each reduced to a 64-bit digest. The weight of the pair is one step of a pseudo-random generator
seeded with both, and the node with the largest weight owns the name. Adding or removing a node moves only the names
that this node wins or loses.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

__all__ = ["digest", "owner", "weight"]

_SEED = 1103515245
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def digest(text: str) -> int:
    """XXH64 of a node's id or of an object's unique name. Names that are not UTF-8 keep their bytes."""
    return xxhash.xxh64_intdigest(text.encode("utf-8", "surrogateescape"), seed=_SEED)


def weight(seed: int) -> int:
    """One step of xoshiro256** whose state is filled by splitmix64, as AIStore draws it."""
    state = _mix((_mix((seed + _GOLDEN) & _MASK) + _GOLDEN) & _MASK)
    product = 5 * state & _MASK
    return 9 * ((product << 7 | product >> 57) & _MASK) & _MASK


def owner(nodes: Iterable[tuple[str, int]], name_digest: int) -> str:
    """The id of the winner among (id, digest) pairs."""
    return max(nodes, key=lambda node: weight(node[1] ^ name_digest))[0]


def _mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31
