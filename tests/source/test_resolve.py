"""What may be passed, what may not, and what the error tells to do instead."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import pathlib
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmpu._source import resolve
from fastmpu.errors import FastMPUError, SourceError, UsageError

from .conftest import MakeFile


def test_a_path_is_a_path_in_every_form(make_file: MakeFile) -> None:
    path = make_file(10)

    class Custom:
        def __fspath__(self) -> bytes:
            return os.fsencode(path)

    for form in (str(path), path, pathlib.PurePath(path), Custom()):
        with resolve(form) as source:
            assert (source.name, source.size) == (str(path), 10)


def test_bytes_are_data_not_a_path() -> None:
    with resolve(b"/etc/hostname") as source:
        assert source.reading == "memory"


def test_a_missing_file_is_told_with_its_path_and_cause(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot open .*no-such-file': No such file or directory") as caught:
        resolve(tmp_path / "no-such-file")
    assert caught.value.errno == errno.ENOENT
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.__cause__.filename == str(tmp_path / "no-such-file")
    assert isinstance(caught.value, FastMPUError)
    assert "no-such-file" in str(pickle.loads(pickle.dumps(caught.value)))


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root reads everything, and tests run as root in containers."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_unreadable_file_is_told(make_file: MakeFile) -> None:
    path = make_file(10)
    path.chmod(0)
    with as_an_ordinary_user(), pytest.raises(SourceError, match="Permission denied") as caught:
        resolve(path)
    assert caught.value.errno == errno.EACCES


def test_a_loop_of_links_and_a_path_through_a_file_are_told(tmp_path: Path, make_file: MakeFile) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SourceError, match=r"cannot open .*loop") as caught:
        resolve(loop)
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(SourceError, match="Not a directory"):
        resolve(make_file(1) / "below")
    with pytest.raises(SourceError, match="cannot open '': No such file"):
        resolve("")


def test_a_link_to_a_file_is_followed(tmp_path: Path, make_file: MakeFile) -> None:
    link = tmp_path / "link"
    link.symlink_to(make_file(10))
    with resolve(link) as source:
        assert source.size == 10


def test_a_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is a directory: directories are not uploaded, pass its files") as caught:
        resolve(tmp_path)
    assert caught.value.errno == errno.EISDIR


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(SourceError, match="fifo' is a FIFO"):
        resolve(fifo)


def test_a_fifo_that_took_the_files_place_is_refused_and_does_not_block(
    make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapped between the look and the opening."""
    regular, fifo = os.stat(make_file(10)), tmp_path / "fifo"
    os.mkfifo(fifo)
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(SourceError, match="fifo' is a FIFO"):
        resolve(fifo)
    assert len(os.listdir("/dev/fd")) == before


def test_sockets_and_devices_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(SourceError, match="socket' is a socket"):
            resolve("socket")
    with pytest.raises(SourceError, match="'/dev/null' is a character device"):
        resolve("/dev/null")


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_a_file_that_its_writer_has_leased_is_opened_when_it_is_given_up(make_file: MakeFile) -> None:
    path = make_file(10)
    writer = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(writer, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(writer, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        give_up = threading.Timer(0.1, fcntl.fcntl, [writer, fcntl.F_SETLEASE, fcntl.F_UNLCK])
        give_up.start()
        with resolve(path) as source:
            assert source.size == 10
        give_up.join()
    finally:
        os.close(writer)


def test_a_path_with_a_nul_is_no_path() -> None:
    with pytest.raises(UsageError, match=r"is no path: .*embedded null"):
        resolve("a\0b")


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (io.BytesIO(b"x"), r"BytesIO: pass a path .* buffer .*; of a BytesIO, pass .getbuffer\(\)"),
        (io.StringIO("x"), "of an open file, pass its path"),
        (iter([b"x"]), "must be stored first"),
        ([b"x"], "cannot upload from list"),
        (None, "cannot upload from NoneType: pass a path"),
        (3, "cannot upload from int"),
    ],
)
def test_other_things_are_refused_with_what_is_accepted(thing: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(thing)


def test_an_open_file_is_refused(make_file: MakeFile) -> None:
    with make_file(10).open("rb") as file, pytest.raises(UsageError, match="of an open file, pass its path"):
        resolve(file)


def test_a_tensors_remedy_is_numpy() -> None:
    class Tensor:
        def numpy(self) -> None: ...

    with pytest.raises(UsageError, match=r"of a tensor, pass .numpy\(\)"):
        resolve(Tensor())


@pytest.mark.parametrize("source", ["some path", b"some bytes"])
def test_an_unknown_way_of_reading_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="read='mapped' is not known: choose one of auto, mmap, pread"):
        resolve(source, read="mapped")


def test_the_descriptor_is_not_inherited(make_file: MakeFile) -> None:
    with resolve(make_file(10)) as source, source.open_part(0, 1) as part:
        assert part.fileno is not None
        assert not os.get_inheritable(part.fileno)
        assert os.get_blocking(part.fileno)
