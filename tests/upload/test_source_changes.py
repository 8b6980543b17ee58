"""A file that changes while it is uploaded: never stored silently, never the end of the process (reliability 2A)."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from interposer import Interposer, afterwards, meanwhile, within_body

import fastmpu
from fastmpu import mock
from fastmpu.errors import SourceChangedError, SourceError, UsageError

MIB = 1 << 20
SIZE = 9 * MIB
LONG_AGO = (1_700_000_000, 1_700_000_000)  # so that every write shows in the file's times


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(content)
    os.utime(path, LONG_AGO)
    return path


@pytest.fixture(params=["auto", "pread"])
def read(request: pytest.FixtureRequest) -> str:
    """By map where the system has leases ("auto", from 8 MiB on), and by pread."""
    mode: str = request.param
    return mode


@pytest.fixture(params=["inline", "thread"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def truncate(path: Path) -> None:
    os.truncate(path, 1_000_000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    """In place, and the size stays."""
    with path.open("r+b") as file:
        file.seek(6 * MIB)
        file.write(b"X" * MIB)


def truncate_and_grow(path: Path) -> None:
    """Reads as zeros, silently, in a map and in pread alike; only the times tell."""
    os.truncate(path, 100)
    os.truncate(path, SIZE)


def write_over(path: Path) -> None:
    """As `cp other source` does: truncated, then written with as many other bytes."""
    path.write_bytes(bytes(SIZE))


CHANGES = [truncate, empty, grow, rewrite, truncate_and_grow, write_over]
# When: before part 1 (the last to start) is sent; in the middle of its body; after its answer.
MOMENTS: dict[str, Callable[[Callable[[], object]], object]] = {
    "before": meanwhile,
    "within": within_body,
    "after": afterwards,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_in_the_middle_of_an_upload(
    obj: fastmpu.Object,
    tap: Interposer,
    nothing_left: None,
    path: Path,
    read: str,
    engine: str,
    change: Callable[[Path], None],
    moment: str,
) -> None:
    """SourceChangedError that names the file, the upload aborted, nothing left; the process is alive to say so."""
    act = MOMENTS[moment](lambda: change(path))
    tap.on("part", act, part=1)  # type: ignore[arg-type]  # an Action
    with pytest.raises(SourceChangedError, match=r"source\.bin") as caught:
        obj.upload(path, part_size="3MiB", read=read, engine=engine)
    assert isinstance(caught.value, OSError)
    assert (tap.count("complete"), tap.count("abort")) == (0, 1)
    assert not obj.exists()


@pytest.mark.parametrize("part", [2, 3])
def test_a_change_while_others_are_in_flight(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, path: Path, read: str, part: int
) -> None:
    """Whichever part finds out, all attempts have ended before the abort."""
    tap.on("part", within_body(lambda: truncate(path)), part=part)
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size="1MiB", read=read, max_concurrency=4)
    kinds = [wire.kind for wire in tap.wires]
    assert kinds.index("abort") > max(at for at, kind in enumerate(kinds) if kind == "part")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_found_with_the_next_part(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, path: Path, change: Callable[[Path], None]
) -> None:
    """Not after hours, when all parts are there: the part whose answer came after the change is the last one."""
    tap.on("part", afterwards(lambda: change(path)), part=4)
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size="1MiB", engine="thread", max_concurrency=1)
    assert tap.parts_sent() == [2, 3, 4]


def test_the_old_object_survives(obj: fastmpu.Object, tap: Interposer, path: Path) -> None:
    """The canary: an upload that fails does not touch what was there."""
    obj.put(b"canary")
    tap.on("part", within_body(lambda: truncate(path)), part=1)
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size="3MiB")
    assert obj.get_reader().read_all() == b"canary"


def test_a_change_before_complete(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked once more when all parts are there: what changed meanwhile is not completed."""
    monkeypatch.setattr("fastmpu._upload.progress.INTERVAL", 0.0)  # an event for each part
    seen: list[int] = []

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        seen.append(event.acked)
        if event.acked == SIZE:
            rewrite(path)

    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size="3MiB", progress=on_progress)
    assert seen[-1] == SIZE
    assert (tap.count("complete"), tap.count("abort")) == (0, 1)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_change_during_a_plain_put(
    obj: fastmpu.Object, tap: Interposer, path: Path, read: str, change: Callable[[Path], None], moment: str
) -> None:
    """Hashed before, sent after: where the cluster finds the sum wrong, it is the file's fault, said so at once."""
    tap.on("put", MOMENTS[moment](lambda: change(path)))  # type: ignore[arg-type]
    with pytest.raises(SourceChangedError, match=r"source\.bin"):
        obj.upload(path, read=read)
    assert tap.count("put") == 1


def test_a_plain_put_of_a_changed_file_leaves_no_object(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, path: Path
) -> None:
    """Other bytes than were hashed are not stored."""
    tap.on("put", meanwhile(lambda: rewrite(path)))
    with pytest.raises(SourceChangedError):
        obj.upload(path, retry=fastmpu.RetryPolicy(base=0))
    assert not obj.exists()


def test_a_file_replaced_by_a_rename(
    obj: fastmpu.Object, tap: Interposer, path: Path, content: bytes, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was opened is uploaded, as a whole, and a warning says that the name means another file now."""
    other = path.with_name("other")
    other.write_bytes(bytes(SIZE))
    tap.on("part", meanwhile(lambda: other.rename(path)), part=1)
    receipt = obj.upload(path, part_size="3MiB", read=read)
    assert obj.get_reader().read_all() == content
    assert receipt.verified == "head"
    assert "replaced" in caplog.text


def test_a_file_that_is_unlinked(obj: fastmpu.Object, tap: Interposer, path: Path, content: bytes, read: str) -> None:
    """The same: the open file lives on."""
    tap.on("part", meanwhile(path.unlink), part=1)
    obj.upload(path, part_size="3MiB", read=read)
    assert obj.get_reader().read_all() == content


def test_a_writer_is_let_in_while_the_network_waits(obj: fastmpu.Object, tap: Interposer, path: Path) -> None:
    """The map's lease keeps a truncater waiting 45 s if nobody gives it up: it gets in at once, though all workers are
    busy (design section 4)."""
    truncated: list[int] = []

    def act() -> None:
        truncate(path)  # returns when the kernel has let it in
        truncated.append(os.stat(path).st_size)

    tap.on("part", within_body(act), part=2)
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size="3MiB", engine="inline")
    assert truncated == [1_000_000]


# --- what cannot be read at all ---------------------------------------------------------------------------------------


def as_missing(tmp_path: Path) -> Path:
    return tmp_path / "missing"


def as_directory(tmp_path: Path) -> Path:
    return tmp_path


def as_dangling(tmp_path: Path) -> Path:
    link = tmp_path / "dangling"
    link.symlink_to(tmp_path / "nowhere")
    return link


def as_loop(tmp_path: Path) -> Path:
    link = tmp_path / "loop"
    link.symlink_to(link)
    return link


def as_fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def as_device(tmp_path: Path) -> Path:
    return Path("/dev/zero")


def as_socket(tmp_path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(tmp_path / "socket"))  # a path of at most 108 bytes
    return tmp_path / "socket"


def as_below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"x")
    return tmp_path / "file" / "below"


@pytest.mark.parametrize(
    ("make", "number", "says"),
    [
        (as_missing, errno.ENOENT, "No such file"),
        (as_directory, errno.EISDIR, "one by one"),
        (as_dangling, errno.ENOENT, "No such file"),
        (as_loop, errno.ELOOP, "symbolic links"),
        (as_fifo, errno.ESPIPE, "FIFO"),
        (as_device, errno.ENODEV, "device"),
        (as_socket, errno.ENXIO, "socket"),
        (as_below_a_file, errno.ENOTDIR, "Not a directory"),
    ],
)
def test_a_path_that_cannot_be_uploaded(
    obj: fastmpu.Object,
    tap: Interposer,
    nothing_left: None,
    tmp_path: Path,
    make: Callable[[Path], Path],
    number: int,
    says: str,
) -> None:
    """An OSError with its errno, which names the path and the reason; nothing is sent."""
    path = make(tmp_path)
    with tap.silence(), pytest.raises(SourceError, match=says) as caught:
        obj.upload(path)
    assert caught.value.errno == number
    assert str(path) in str(caught.value)


def test_a_file_that_may_not_be_read(
    obj: fastmpu.Object, tap: Interposer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EACCES, which root never meets by itself."""
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    real = os.open

    def refuse(name: object, flags: int, *rest: object, **options: object) -> int:
        if str(name) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(name, flags, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with tap.silence(), pytest.raises(SourceError, match="Permission denied") as caught:
        obj.upload(path)
    assert caught.value.errno == errno.EACCES
    assert str(path) in str(caught.value)


def test_a_disk_that_fails_in_the_middle(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO while reading: a SourceError with it, the upload aborted."""
    real = os.preadv

    def fail(fd: int, buffers: list[memoryview], offset: int, *flags: int) -> int:
        if offset > 7 * MIB:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceError, match="Input/output") as caught:
        obj.upload(path, part_size="3MiB", read="pread")
    assert caught.value.errno == errno.EIO
    assert (tap.count("complete"), tap.count("abort")) == (0, 1)


def test_files_that_are_links(bucket: fastmpu.Bucket, path: Path, content: bytes) -> None:
    """A symlink that the user names is followed."""
    link = path.with_name("link")
    link.symlink_to(path)
    obj = bucket.object("o")
    obj.upload(link, part_size="3MiB")
    assert obj.get_reader().read_all() == content


def test_a_sparse_file(bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """Holes are zeros."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(9 * MIB)
        file.write(b"end")
    obj = bucket.object("o")
    assert obj.upload(path, part_size="2MiB").size == 9 * MIB + 3
    assert obj.get_reader().read_all() == bytes(9 * MIB) + b"end"


def test_a_source_is_never_altered(bucket: fastmpu.Bucket, path: Path, content: bytes, cluster: mock.Cluster) -> None:
    """Neither its bytes nor its times; and the file can be written and removed right after."""
    before = os.stat(path)
    bucket.object("o").upload(path, part_size="2MiB")
    after = os.stat(path)
    assert (after.st_mtime_ns, after.st_ctime_ns, after.st_size) == (before.st_mtime_ns, before.st_ctime_ns, SIZE)
    assert path.read_bytes() == content
    shutil.rmtree(path.parent)


def test_a_name_with_a_nul(obj: fastmpu.Object, tap: Interposer) -> None:
    with tap.silence(), pytest.raises(UsageError, match="is no path"):
        obj.upload("a\0b")
