"""Files: the right bytes, by map or by preadv, without copies, in little memory, and leaving nothing behind."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._source import HASH_WINDOW, Source, mapped_file, resolve
from fastmpu._source.file_map import FileMap
from fastmpu._source.mapped_file import File
from fastmpu.errors import SourceError

from .conftest import MakeFile

KiB, MiB = 1 << 10, 1 << 20


def fed(source: Source, offset: int, length: int) -> bytes:
    seen = bytearray()
    with source.open_part(offset, length) as part:
        part.feed(offset, length, seen.extend)
    return bytes(seen)


def test_every_part_has_its_bytes(make_file: MakeFile, read: str) -> None:
    path = make_file()
    data = path.read_bytes()
    with resolve(path, read=read) as source:
        assert (source.name, source.size, source.reading) == (str(path), len(data), read)
        for offset, length in [(0, len(data)), (0, 1), (4095, 2), (1_000_003, 1_999_998), (len(data), 0)]:
            assert fed(source, offset, length) == data[offset : offset + length]
        source.check()


def test_a_view_is_read_into_the_readers_own_buffer(make_file: MakeFile, read: str) -> None:
    path = make_file()
    data = path.read_bytes()
    with resolve(path, read=read) as source, source.open_part(1_000_001, 1_500_000) as part:
        first = part.view(1_000_001, HASH_WINDOW)
        assert first == data[1_000_001 : 1_000_001 + HASH_WINDOW]
        assert first.readonly
        assert part.view(2_000_000, 77) == data[2_000_000:2_000_077] == first[:77]  # the same buffer, again
        with pytest.raises(ValueError, match="at most 524288 bytes"):
            part.view(1_000_001, HASH_WINDOW + 1)


def test_the_file_number_is_for_sendfile(make_file: MakeFile, read: str) -> None:
    path = make_file()
    with resolve(path, read=read) as source, source.open_part(5, 10) as part:
        assert part.fileno is not None
        assert os.pread(part.fileno, 10, 5) == path.read_bytes()[5:15]


@given(offset=st.integers(0, 40_000), length=st.integers(0, 40_000), steps=st.lists(st.integers(1, 9_000), max_size=6))
def test_any_windows_of_any_part(
    shared: tuple[dict[str, Source], bytes], offset: int, length: int, steps: list[int]
) -> None:
    sources, data = shared
    offset, end = min(offset, len(data)), min(offset + length, len(data))
    for source in sources.values():
        seen, at = bytearray(), offset
        with source.open_part(offset, end - offset) as part:
            for step in [*steps, end]:
                step = min(step, end - at)
                part.feed(at, step, seen.extend)
                at += step
        assert seen == data[offset:end]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Source], bytes]]:
    data = os.urandom(40_000)
    path = tmp_path_factory.mktemp("shared") / "data"
    path.write_bytes(data)
    with resolve(path) as one, resolve(path, read="mmap" if sys.platform == "linux" else "auto") as two:
        yield {"pread": one, "mmap": two}, data


def test_bytes_outside_of_the_part_are_refused(make_file: MakeFile, read: str) -> None:
    with resolve(make_file(), read=read) as source:
        for offset, length in [(-1, 5), (0, source.size + 1), (source.size, 1), (5, -1)]:
            with pytest.raises(ValueError, match="lie outside of"):
                source.open_part(offset, length)
        with source.open_part(100, 100) as part:
            for offset, length in [(99, 5), (150, 51)]:
                with pytest.raises(ValueError, match="lie outside of 100 to 200"):
                    part.feed(offset, length, len)
                with pytest.raises(ValueError, match="lie outside of 100 to 200"):
                    part.view(offset, length)


def test_an_empty_file_is_a_source(make_file: MakeFile, read: str) -> None:
    with resolve(make_file(0), read=read) as source:
        assert source.size == 0
        assert fed(source, 0, 0) == b""
        source.check()


def test_auto_maps_large_files_and_reads_small_ones(make_file: MakeFile, mappable: None) -> None:
    with resolve(make_file(8 * MiB)) as large, resolve(make_file(8 * MiB - 1, "small")) as small:
        assert (large.reading, small.reading) == ("mmap", "pread")


def test_several_threads_read_parts_of_their_own(make_file: MakeFile, read: str) -> None:
    path = make_file(40 * MiB)  # more than one map's span
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    parts: dict[int, bytes] = {}
    with resolve(path, read=read) as source:
        threads = [
            threading.Thread(target=lambda at=at: parts.__setitem__(at, fed(source, at, 8 * MiB)))
            for at in range(0, source.size, 8 * MiB)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert hashlib.sha256(b"".join(parts[at] for at in sorted(parts))).hexdigest() == expected


def test_a_part_longer_than_a_map_moves_its_map_along(make_file: MakeFile, mappable: None) -> None:
    path = make_file(40 * MiB + 12345)
    with resolve(path, read="mmap") as source:
        assert fed(source, 4097, source.size - 4097) == path.read_bytes()[4097:]


def test_feeding_copies_nothing(make_file: MakeFile, read: str) -> None:
    """A copy of each window, as by `bytes(view)`, would show: allocated is one buffer, or nothing with a map."""
    path = make_file(20 * MiB)
    views: list[tuple[int, bool]] = []
    with resolve(path, read=read) as source:
        fed(source, 0, 1)  # first use of the map loads ctypes
        tracemalloc.start()
        try:
            with source.open_part(0, source.size) as part:
                part.feed(0, source.size, lambda view: views.append((view.nbytes, view.readonly)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sum(count for count, _ in views) == 20 * MiB
    assert max(count for count, _ in views) <= 4 * MiB
    assert all(readonly for _, readonly in views)
    assert peak < 64 * KiB + (HASH_WINDOW if read == "pread" else 0)


def test_whether_a_byte_is_cached(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the kernel, which reads it if it need not wait. Where that cannot tell nothing is done about it."""
    raises: OSError | None = None
    preadv = os.preadv

    def answered(fd: int, buffers: list[bytearray], offset: int, *flags: int) -> int:
        assert flags == (os.RWF_NOWAIT,)
        if raises is not None:
            raise raises
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", answered)
    with resolve(make_file()) as source, source.open_part(0, 10) as part:
        assert part.is_cached(9)
        raises = BlockingIOError(errno.EAGAIN, "not now")
        assert not part.is_cached(9)
        raises = OSError(errno.EOPNOTSUPP, "cannot tell")
        assert part.is_cached(9)
        monkeypatch.setattr(mapped_file, "_NOWAIT", None)
        raises = BlockingIOError(errno.EAGAIN, "nobody asks")
        assert part.is_cached(9)
    with resolve(b"memory") as source, source.open_part(0, 6) as part:
        assert part.is_cached(5)


def test_a_view_is_dead_after_its_update(make_file: MakeFile, read: str) -> None:
    kept: list[memoryview] = []
    with resolve(make_file(), read=read) as source, source.open_part(0, 10) as part:
        part.feed(0, 10, kept.append)
        with pytest.raises(ValueError, match="released memoryview"):
            bytes(kept[0])


def test_an_error_in_the_update_comes_through_and_leaves_the_reader_usable(make_file: MakeFile, read: str) -> None:
    def fail(view: memoryview) -> None:
        raise RuntimeError("no more")

    path = make_file()
    with resolve(path, read=read) as source, source.open_part(0, source.size) as part:
        with pytest.raises(RuntimeError, match="no more"):
            part.feed(0, source.size, fail)
        seen = bytearray()
        part.feed(0, source.size, seen.extend)
    assert seen == path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hashing_a_large_file_takes_little_memory(tmp_path: Path, read: str) -> None:
    """256 MiB by two threads: their two maps, or two buffers, and nothing that grows with the file."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 256 * MiB)
    script = """
        import sys, threading
        from fastmpu._source import resolve
        def peak():
            with open("/proc/self/status") as lines:
                return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))
        with resolve(sys.argv[1], read=sys.argv[2]) as source:
            assert source.reading == sys.argv[2]
            def work(at, length):
                with source.open_part(at, length) as part:
                    part.feed(at, length, sum_up)
            def sum_up(view):
                count[0] += view.nbytes
                hash(view.tobytes()[:1])
            count, half = [0], source.size // 2
            work(0, 1 << 20)
            before = peak()
            threads = [threading.Thread(target=work, args=(at, half)) for at in (0, half)]
            [thread.start() for thread in threads]; [thread.join() for thread in threads]
            print(peak() - before)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path), read], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) <= (40 if read == "mmap" else 8)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="counts /dev/fd")
def test_no_descriptor_is_left_behind(make_file: MakeFile, tmp_path: Path, read: str) -> None:
    path = make_file()
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        with resolve(path, read=read) as source:
            part = source.open_part(0, source.size)
            part.feed(0, source.size, len)
            source.close()  # with a reader still open, as on the way out of an error
            part.close()
            source.close()
        for refused in (tmp_path, tmp_path / "missing"):
            with pytest.raises(SourceError):
                resolve(refused, read=read)
    assert len(os.listdir("/dev/fd")) == before


def test_closed_means_closed(make_file: MakeFile, read: str) -> None:
    source = resolve(make_file(), read=read)
    part = source.open_part(0, 10)
    part.close()
    part.close()
    with pytest.raises(ValueError, match="is closed"):
        part.feed(0, 10, len)
    with pytest.raises(ValueError, match="is closed"):
        part.view(0, 10)
    source.close()
    assert not source.serve_lease()
    with pytest.raises(ValueError, match="is closed"):
        source.open_part(0, 10)


def test_a_read_error_says_where_and_why(make_file: MakeFile) -> None:
    """A descriptor that cannot be read stands for a disk that fails."""
    path = make_file()
    with (
        File(os.open(path, os.O_WRONLY), str(path), read="pread") as source,
        source.open_part(100, 10) as part,
        pytest.raises(SourceError, match=r"source.bin' at byte 100: Bad file descriptor") as caught,
    ):
        part.view(100, 10)
    assert caught.value.errno == errno.EBADF
    assert isinstance(caught.value.__cause__, OSError)


def test_a_page_that_cannot_be_had_is_no_sigbus(make_file: MakeFile, mappable: None) -> None:
    """Without any lease: what is missing from a map is told, and never touched."""
    path = make_file(64 * KiB)
    fd = os.open(path, os.O_RDONLY)
    try:
        file_map = FileMap(fd, 0, 64 * KiB)
        whole = file_map.window(0, 64 * KiB)
        assert whole is not None
        whole.release()
        os.truncate(path, 10_000)
        assert file_map.window(0, 64 * KiB) is None
        assert file_map.window(40_000, 10) is None
        beginning = file_map.window(0, 4096)
        assert beginning is not None
        beginning.release()
        file_map.close()
    finally:
        os.close(fd)


def test_a_source_shows_what_it_is(make_file: MakeFile) -> None:
    path = make_file(10)
    with resolve(path) as source:
        assert repr(source) == f"<File {str(path)!r} 10 bytes, by pread>"
