"""What is inside shards: tar, also compressed, and zip. Read as a whole; the mock's shards are small."""

from __future__ import annotations

import io
import tarfile
import zipfile

__all__ = ["is_archive", "member", "members"]

_TARS = (".tar", ".tgz", ".tar.gz")
_SUFFIXES = (*_TARS, ".zip")


def is_archive(name: str) -> bool:
    return name.endswith(_SUFFIXES)


def members(name: str, data: bytes) -> list[tuple[str, int]]:
    """Names and sizes of the files in it; none if it is no archive after all."""
    try:
        if name.endswith(_TARS):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                return [(item.name, item.size) for item in tar if item.isfile()]
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return [(item.filename, item.file_size) for item in packed.infolist() if not item.is_dir()]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError):
        return []


def member(name: str, data: bytes, path: str) -> bytes | None:
    """One file's bytes; None if it is not in there."""
    if path not in dict(members(name, data)):
        return None
    if name.endswith(_TARS):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            file = tar.extractfile(path)
            return None if file is None else file.read()
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return packed.read(path)
