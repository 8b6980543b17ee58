"""Memory: whatever has a C-contiguous buffer, used where it lies."""

from __future__ import annotations

import array
import ctypes
import mmap
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fastmpu._source import resolve
from fastmpu.errors import UsageError

DATA = bytes(range(256)) * 16
FLOATS = np.arange(24, dtype=">f4").reshape(2, 3, 4)


def a_map() -> mmap.mmap:
    made = mmap.mmap(-1, len(DATA))
    made.write(DATA)
    return made


@pytest.mark.parametrize(
    ("buffer", "content"),
    [
        (DATA, DATA),
        (bytearray(DATA), DATA),
        (memoryview(DATA)[16:32], DATA[16:32]),
        (a_map(), DATA),
        (array.array("d", [1.5, 2.5]), array.array("d", [1.5, 2.5]).tobytes()),
        ((ctypes.c_uint16 * 3)(1, 2, 3), bytes((ctypes.c_uint16 * 3)(1, 2, 3))),
        (FLOATS, FLOATS.tobytes()),
        (FLOATS[1], FLOATS[1].tobytes()),
        (np.float64(2.5), np.float64(2.5).tobytes()),
        (np.array(7), np.array(7).tobytes()),
        (np.array([True, False]), b"\1\0"),
        (np.array([(1, 2.0)], dtype=[("a", "i2"), ("b", "f8")]), np.array([(1, 2.0)], "i2,f8").tobytes()),
        (np.array([1 + 2j]), np.array([1 + 2j]).tobytes()),
        (np.zeros((0, 5)), b""),
        (b"", b""),
        (bytearray(), b""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_buffer_is_its_flat_bytes(buffer: Any, content: bytes) -> None:
    with resolve(buffer) as source:
        assert (source.size, source.reading) == (len(content), "memory")
        with source.open_part(0, source.size) as part:
            assert part.fileno is None
            assert part.view(0, source.size) == content
            assert part.view(0, source.size).readonly
            seen = bytearray()
            part.feed(0, source.size, seen.extend)
            assert seen == content
        source.check()
        assert not source.serve_lease()


def test_a_buffer_is_named_by_its_size() -> None:
    with resolve(bytes(3 << 20)) as source:
        assert source.name == "<3 MiB buffer>"
        assert repr(source) == "<Buffer 3145728 bytes>"


def test_an_array_is_not_copied() -> None:
    matrix = np.zeros((1024, 1024))
    tracemalloc.start()
    try:
        with resolve(matrix) as source, source.open_part(4096, 1 << 20) as part:
            view = part.view(4096, 1 << 20)
            assert np.shares_memory(np.frombuffer(view, np.uint8), matrix)
            assert np.frombuffer(view, np.uint8).ctypes.data == matrix.ctypes.data + 4096
            part.feed(4096, 1 << 20, len)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 10


def test_the_buffer_is_held_until_close_and_free_afterwards() -> None:
    data = bytearray(DATA)
    source = resolve(data)
    with pytest.raises(BufferError):
        data.append(1)
    source.close()
    source.close()
    data.append(1)


@pytest.mark.parametrize(
    ("buffer", "says"),
    [
        (np.zeros((4, 4))[:, 1], r"not C-contiguous: pass np.ascontiguousarray\(...\)"),
        (np.zeros((4, 4)).T, r"np.ascontiguousarray\(...\)"),
        (memoryview(DATA)[::2], r"np.ascontiguousarray\(...\)"),
        (np.array([object()]), "holds Python objects"),
        (np.zeros(2, dtype=[("n", "i4"), ("o", object)]), "holds Python objects"),
        (np.array(["2024-01-01"], "M8[D]"), r"ndarray gives no buffer .*array.view\('uint8'\)"),
    ],
)
def test_a_buffer_that_will_not_do_is_refused_with_a_remedy(buffer: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(buffer)


def test_a_closed_map_is_refused() -> None:
    closed = a_map()
    closed.close()
    with pytest.raises(UsageError, match="mmap gives no buffer"):
        resolve(closed)


def test_the_remedy_for_dates_works() -> None:
    dates = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    with resolve(dates.view("uint8")) as source:
        assert source.size == 16


def test_bytes_outside_are_refused_and_closed_means_closed() -> None:
    with resolve(DATA) as source:
        with pytest.raises(ValueError, match="lie outside of"):
            source.open_part(4000, 97)
        part = source.open_part(10, 10)
        with pytest.raises(ValueError, match="lie outside of 10 to 20"):
            part.view(9, 5)
        part.close()
        part.close()
        with pytest.raises(ValueError, match="closed"):
            part.feed(10, 5, len)
