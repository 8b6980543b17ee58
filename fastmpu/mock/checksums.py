"""Checksums of objects and parts: AIStore's types, and how CRC-32C values of parts add up (protocol 5.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

import crc32c
import xxhash

__all__ = ["TYPES", "Checksum", "Crc32c", "Hasher", "combine_all", "combine_crc32c", "new_hasher"]

_CASTAGNOLI = 0x82F63B78  # bits reflected, as in every CRC-32C implementation
_ONE = 1 << 31  # the polynomial 1, bits reflected


class Checksum(NamedTuple):
    """A checksum as it is told: its type's name and lower-case hex digits."""

    type: str
    value: str


class Hasher(Protocol):
    """What hashlib's objects offer and the mock uses."""

    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Crc32c:
    """CRC-32C with the face of a hashlib object."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: memoryview, /) -> None:
        self.value = crc32c.crc32c(data, self.value)

    def hexdigest(self) -> str:
        return f"{self.value:08x}"


_MAKERS: dict[str, Callable[[], Hasher]] = {
    "crc32c": Crc32c,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "xxhash": xxhash.xxh64,
    "xxhash2": xxhash.xxh64,
}
TYPES = (*_MAKERS, "none")


def new_hasher(type_: str) -> Hasher:
    """A fresh hasher; KeyError for a type that AIStore does not know, and for "none"."""
    return _MAKERS[type_]()


def combine_crc32c(first: int, second: int, second_size: int) -> int:
    """CRC-32C of A + B from those of A and B: A's remainder moves up by B's length, B's is added."""
    return _multiply(_power_of_x(8 * second_size), first) ^ second


def combine_all(parts: Iterable[tuple[int, int]]) -> Checksum:
    """The CRC-32C of a whole from the (crc, size) of its parts, in order."""
    value = 0
    for crc, size in parts:
        value = combine_crc32c(value, crc, size)
    return Checksum("crc32c", f"{value:08x}")


@lru_cache(maxsize=256)
def _power_of_x(exponent: int) -> int:
    """x^exponent modulo the polynomial, put together from x^1, x^2, x^4, ...; parts are mostly of one size."""
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power


def _multiply(a: int, b: int) -> int:
    """a * b modulo the Castagnoli polynomial; the highest bit is the lowest power."""
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        b = b >> 1 ^ (_CASTAGNOLI if b & 1 else 0)
        bit >>= 1
    return product
