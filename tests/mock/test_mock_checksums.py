"""CRC-32C of a whole from its parts (protocol 5.3), and the types' check values (protocol 4.1)."""

from __future__ import annotations

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu.mock.checksums import combine_all, combine_crc32c, new_hasher


@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_parts_add_up_to_the_whole(pieces: list[bytes]) -> None:
    combined = combine_all((crc32c.crc32c(piece), len(piece)) for piece in pieces)
    assert combined == ("crc32c", f"{crc32c.crc32c(b''.join(pieces)):08x}")


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 1 << 45), st.integers(0, 1 << 45))
def test_it_does_not_matter_which_two_meet_first(a: int, b: int, b_size: int, c_size: int) -> None:
    c = 0x12345678
    left = combine_crc32c(combine_crc32c(a, b, b_size), c, c_size)
    right = combine_crc32c(a, combine_crc32c(b, c, c_size), b_size + c_size)
    assert left == right


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("xxhash", "8cb841db40e6ae83"),
        ("xxhash2", "8cb841db40e6ae83"),
        ("crc32c", "e3069283"),
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_types(type_: str, value: str) -> None:
    hasher = new_hasher(type_)
    hasher.update(memoryview(b"12345"))
    hasher.update(memoryview(b"6789"))
    assert hasher.hexdigest() == value
