"""Checksums: AIStore's values, in its spelling; and C code that lets other threads run meanwhile."""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
import threading
from collections.abc import Iterator

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._checksum import Digest, new_checksum
from fastmpu.errors import UsageError

# protocol.md 4.1, but for xxh3 (from the xxHash project's own vectors) and the usual empty values.
VECTORS = {
    "xxhash": ("8cb841db40e6ae83", "ef46db3751d8e999"),
    "xxhash2": ("8cb841db40e6ae83", "ef46db3751d8e999"),
    "xxh3": (None, "2d06800538d394c2"),
    "crc32c": ("e3069283", "00000000"),
    "md5": ("25f9e794323b453885f5181f1b624d0b", "d41d8cd98f00b204e9800998ecf8427e"),
    "sha256": (hashlib.sha256(b"123456789").hexdigest(), hashlib.sha256().hexdigest()),
    "sha512": (hashlib.sha512(b"123456789").hexdigest(), hashlib.sha512().hexdigest()),
}
NAMES = list(VECTORS)


@pytest.fixture
def no_forced_switches() -> Iterator[None]:
    """Threads change only where one lets go of the GIL by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_that_aistore_computes(name: str) -> None:
    nine_digits, empty = VECTORS[name]
    checksum = new_checksum(name)
    assert checksum.name == name
    assert checksum.hexdigest() == empty
    checksum.update(memoryview(b"12345"))
    checksum.update(memoryview(b""))
    checksum.update(memoryview(b"6789"))
    if nine_digits:
        assert checksum.hexdigest() == nine_digits


def test_crc32c_keeps_its_leading_zeros() -> None:
    data = next(
        data for data in (bytes([i, j]) for i in range(256) for j in range(256)) if crc32c.crc32c(data) < 1 << 24
    )
    checksum = new_checksum("crc32c")
    checksum.update(memoryview(data))
    assert len(checksum.hexdigest()) == 8
    assert int(checksum.hexdigest(), 16) == crc32c.crc32c(data)


@pytest.mark.parametrize("offset", [0, 1, 63])
@pytest.mark.parametrize(
    "length", [1, 255, 16_382, 16_383, 16_384, 32_767, 65_535, 65_536, 65_537, 131_072, (1 << 20) + 3, (5 << 20) + 7]
)
def test_crc32c_is_that_of_another_library(length: int, offset: int) -> None:
    """At the lengths where another way is taken, here or there, wherever in memory it begins, and as a continuation."""
    data = memoryview(random.Random(length).randbytes(length + offset))[offset:]
    checksum = new_checksum("crc32c")
    checksum.update(data)
    assert checksum.hexdigest() == f"{crc32c.crc32c(data):08x}"
    checksum.update(data)
    assert checksum.hexdigest() == f"{crc32c.crc32c(data, crc32c.crc32c(data)):08x}"


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_any_split_gives_the_value_of_one_pass(name: str, data: bytes, cuts: list[int]) -> None:
    whole, split = new_checksum(name), new_checksum(name)
    whole.update(memoryview(data))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        split.update(memoryview(data)[start:end])
    assert split.hexdigest() == whole.hexdigest()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("no_forced_switches")
def test_an_update_of_128_kib_lets_other_threads_run(name: str) -> None:
    checksum, window = new_checksum(name), memoryview(bytes(128 << 10))
    ran = threading.Event()
    # Starting a thread waits for its first step, so it is held back until this one does nothing but hash.
    gate = threading.Lock()
    gate.acquire()

    def wait_and_run() -> None:
        gate.acquire()
        ran.set()

    thread = threading.Thread(target=wait_and_run)
    thread.start()
    gate.release()
    updates = 0
    while not ran.is_set() and updates < 50_000:
        checksum.update(window)
        updates += 1
    seen = ran.is_set()
    thread.join()
    assert seen, f"no other thread ran during {updates} updates"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="checksum='crc32' is not known: choose one of crc32c, xxhash"):
        new_checksum("crc32")


def test_a_digest_reads_as_type_and_value() -> None:
    assert str(Digest("crc32c", "e3069283")) == "crc32c:e3069283"
