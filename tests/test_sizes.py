"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._sizes import GiB, KiB, MiB, TiB, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (67108864, 64 * MiB), ("67108864", 64 * MiB), ("64MiB", 64 * MiB), ("64 mib", 64 * MiB), ("64M", 64 * MiB),
        ("64MB", 64_000_000), (" 1.5 GiB ", 3 * GiB // 2), ("0.5k", 512), ("12 B", 12), ("2TiB", 2 * TiB), ("0", 0),
        (-5, -5), ("0.0001KiB", 0),
    ],
)  # fmt: skip
def test_a_size_is_read_as_it_is_meant(text: int | str, count: int) -> None:
    assert parse_size(text, "part_size") == count


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1.MiB", ".5", "1e6", "64 M iB", "64XB", "M\u0131B", "9" * 5000])
def test_what_is_no_size_is_refused_with_its_option_and_a_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"part_size=.* is not a size: give bytes or .*'64MiB'"):
        parse_size(text, "part_size")


@pytest.mark.parametrize("value", [True, 1.5, None, b"64MiB"])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(value, "part_size")  # type: ignore[arg-type]  # on purpose


def test_a_fraction_is_cut_to_full_bytes_not_rounded_by_a_float() -> None:
    assert parse_size("1.999999999999999999MiB", "n") == 2 * MiB - 1
    assert parse_size("9007199254740993", "n") == 2**53 + 1


@given(st.integers(0, 10**15))
def test_whole_bytes_survive(count: int) -> None:
    assert parse_size(str(count), "n") == parse_size(f"{count}B", "n") == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (12, "12 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 * GiB // 2, "1.5 GiB"), (64 * MiB, "64 MiB"),
        (100 * MiB, "100 MiB"), (10 * KiB, "10 KiB"), (2000 * TiB, "2000 TiB"), (-5 * MiB, "-5 MiB"), (12.7, "12 B"),
        (MiB - 1, "1 MiB"), (GiB - 1, "1 GiB"), (1023 * KiB, "1023 KiB"),
    ],
)  # fmt: skip
def test_a_size_is_shown_in_the_largest_unit_that_fits(count: float, text: str) -> None:
    assert format_size(count) == text


@given(st.integers(KiB, 5000 * TiB))
def test_what_is_shown_reads_back_to_within_its_digits(count: int) -> None:
    assert abs(parse_size(format_size(count), "n") - count) <= 0.006 * count
