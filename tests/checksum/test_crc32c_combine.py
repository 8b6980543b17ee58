"""The object's CRC32C from its parts': the same as one pass over everything, whatever the cut."""

from __future__ import annotations

import functools
import random
import time

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._checksum import combine, combine_all

PARTS = st.lists(st.binary(max_size=300), max_size=12)


def crc(data: bytes) -> int:
    return crc32c.crc32c(data)


@given(PARTS)
def test_folding_from_the_left_is_one_pass(parts: list[bytes]) -> None:
    assert combine_all((crc(part), len(part)) for part in parts) == crc(b"".join(parts))


@given(PARTS, st.randoms(use_true_random=False))
def test_any_order_of_folding_neighbours_is_one_pass(parts: list[bytes], chance: random.Random) -> None:
    runs = [(crc(part), len(part)) for part in parts] or [(0, 0)]
    while len(runs) > 1:
        i = chance.randrange(len(runs) - 1)
        (first, one), (second, two) = runs[i : i + 2]
        runs[i : i + 2] = [(combine(first, second, two), one + two)]
    assert runs == [(crc(b"".join(parts)), sum(map(len, parts)))]


@given(st.binary(max_size=100))
def test_an_empty_part_changes_nothing(data: bytes) -> None:
    assert combine(crc(data), crc(b""), 0) == combine(crc(b""), crc(data), len(data)) == crc(data)


def test_no_parts_are_the_empty_object() -> None:
    assert combine_all([]) == 0


@given(first=st.binary(max_size=50), tail=st.binary(max_size=50), doublings=st.integers(0, 12))
def test_lengths_beyond_4_gib_add_up(first: bytes, tail: bytes, doublings: int) -> None:
    """Five GiB of zeros and more are not hashed but doubled up; a second way of adding must agree."""
    zeros, length = crc(bytes(5 << 10)), 5 << 10
    for _ in range(20 + doublings):
        zeros, length = combine(zeros, zeros, length), 2 * length
    assert length >= 5 << 30
    at_once = combine(crc(first), combine(zeros, crc(tail), len(tail)), length + len(tail))
    one_by_one = combine_all([(crc(first), len(first)), (zeros, length), (crc(tail), len(tail))])
    in_four = combine_all(
        [(crc(first), len(first)), *[(zeros_of(length // 4), length // 4)] * 4, (crc(tail), len(tail))]
    )
    assert at_once == one_by_one == in_four


@functools.lru_cache(maxsize=64)
def zeros_of(length: int) -> int:
    if length <= 64 << 10:
        return crc(bytes(length))
    half = length // 2
    return combine(combine(zeros_of(half), zeros_of(half), half), crc(bytes(length % 2)), length % 2)


def test_9999_parts_are_put_together_in_no_time() -> None:
    """About 10 ms; the limit only tells a cache that works from one that does not (2 s)."""
    parts = [(number * 2654435761 & 0xFFFFFFFF, 64 << 20) for number in range(9998)] + [(7, 12345)]
    began = time.process_time()
    combine_all(parts)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("args", [(-1, 0, 0), (0, 1 << 32, 0), (0, 0, -1)])
def test_what_is_no_crc_or_length_is_refused(args: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        combine(*args)
