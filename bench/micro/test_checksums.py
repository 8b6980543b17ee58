"""Hashing, window by window, and putting the object's CRC32C together from its parts'."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastmpu._checksum import combine_all, new_checksum
from fastmpu._sizes import KiB, MiB

Benchmark = Callable[..., object]


@pytest.mark.parametrize("name", ["crc32c", "xxhash", "xxh3", "md5", "sha256"])
def test_checksum_of_4_mib(benchmark: Benchmark, data: bytes, name: str) -> None:
    """In windows of 512 KiB."""
    whole = memoryview(data)[: 4 * MiB]
    windows = [whole[at : at + 512 * KiB] for at in range(0, len(whole), 512 * KiB)]

    def hash_all() -> str:
        checksum = new_checksum(name)
        for window in windows:
            checksum.update(window)
        return checksum.hexdigest()

    benchmark(hash_all)


def test_combine_9999_parts(benchmark: Benchmark) -> None:
    parts = [(number * 2_654_435_761 & 0xFFFFFFFF, 64 * MiB) for number in range(9_998)] + [(7, 12_345)]
    benchmark(combine_all, parts)
