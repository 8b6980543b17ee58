"""What lies on one target's disks: objects, and the files of parts (protocol 4, 5.1).

An object made of parts is a main file, which was the file of part 1, and a list that names the files of the others. The
list is believed: nobody looks whether those files are there before somebody reads them.

What is to outlive the mock is told to a `Keeper` before it shows; what a restart finds comes back by `put_back`.

Threads: any. One lock guards all tables; bytes are moved outside it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fastmpu.mock.answers import Refusal
from fastmpu.mock.blobs import Blob, Blobs, out_of_space
from fastmpu.mock.checksums import Checksum
from fastmpu.mock.names import Bck, name_on_disk
from fastmpu.mock.placement import digest
from fastmpu.mock.quirks import Quirks
from fastmpu.mock.wire import Wire

__all__ = ["Keeper", "Object", "PartFile", "PartKey", "PartRef", "Place", "Segments", "Store"]

_MOUNTPATHS = 2  # disks of a target


class Place(NamedTuple):
    """Where an object lies: names that are equal here are one file."""

    mountpath: int
    bck: Bck
    path: str


class PartKey(NamedTuple):
    """Names the file of a part. The object is the one the upload was created for."""

    bck: Bck
    object_name: str
    upload_id: str
    number: int

    @property
    def file_name(self) -> str:
        return f"{self.object_name}.{self.upload_id}.{self.number:04d}"


@dataclass
class PartFile:
    """The file of a part. While an attempt writes it, readers find too little in it."""

    blob: Blob
    whole: bool = False


class PartRef(NamedTuple):
    """One line of an object's list of parts."""

    key: PartKey
    size: int


@dataclass
class Object:
    """An object's metadata and its main file. A ghost has lost its files, but its metadata are still cached (H6)."""

    bck: Bck
    name: str
    size: int
    checksum: Checksum | None
    main: Blob
    parts: tuple[PartRef, ...] = ()  # all of them, part 1 included; empty for an object that came whole
    custom: dict[str, str] = field(default_factory=dict)
    version: int = 1
    atime_ns: int = field(default_factory=time.time_ns)
    modified: float = field(default_factory=time.time)
    ghost: bool = False


@dataclass
class Segments:
    """A stretch of an object: pieces of blobs, in order. One without a blob is a hole, where reading breaks off."""

    pieces: list[tuple[Blob | None, int, int]]  # blob, offset, size

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.pieces)

    def read(self) -> bytes:
        """All of it at once; LookupError if there is a hole."""
        if any(blob is None for blob, _, _ in self.pieces):
            raise LookupError("the file of a part is missing")
        return b"".join(blob.read(offset, size) for blob, offset, size in self.pieces if blob is not None)

    def send(self, wire: Wire) -> bool:
        for blob, offset, size in self.pieces:
            if blob is None:
                return False
            try:
                blob.send(wire, offset, size)
            except FileNotFoundError:  # in a directory a file may go while the one before it is read
                return False
        return True


class Keeper(Protocol):
    """Remembers objects and checkpoints of uploads beyond this process. None: forget it."""

    def keep(self, store: Store, place: Place, found: Object | None) -> None: ...
    def keep_upload(self, store: Store, id_: str, checkpoint: dict[str, Any] | None) -> None: ...


class Store:
    """The objects and part files of one target."""

    def __init__(self, blobs: Blobs, quirks: Quirks, keeper: Keeper | None = None) -> None:
        self.blobs = blobs
        self.quirks = quirks
        self._keeper = keeper
        self.lock = threading.RLock()
        self._objects: dict[Place, Object] = {}
        self._files: dict[PartKey, PartFile] = {}
        self._directories: Counter[Place] = Counter()  # how many objects lie somewhere below

    # -- where things lie

    def place(self, bck: Bck, name: str) -> Place:
        mountpath = digest(bck.uname(name)) % _MOUNTPATHS
        return Place(mountpath, bck, name_on_disk(name) if self.quirks.disk_paths_show else name)

    def mountpath(self, bck: Bck, name: str) -> str:
        """The disk's directory, as messages and metadata tell it."""
        return f"/ais/mp{self.place(bck, name).mountpath + 1}"

    # -- objects

    def find(self, bck: Bck, name: str) -> Object | None:
        return self._objects.get(self.place(bck, name))

    def objects(self, bck: Bck | None = None) -> Iterator[tuple[Place, Object]]:
        """All objects that have files, or those of one bucket."""
        with self.lock:
            found = [item for item in self._objects.items() if bck in (None, item[0].bck) and not item[1].ghost]
        return iter(found)

    def publish(self, new: Object) -> None:
        """Make an object visible in place of what is there under its name, and count its version up."""
        place = self.place(new.bck, new.name)
        with self.lock:
            self._refuse_clash(place)
            old = self._objects.get(place)
            if old is not None:
                new.version = old.version + 1
            self._keep(place, new)
            if old is not None:
                self._unlink_files(old)
            else:
                self._directories.update(_directories_of(place))
            self._objects[place] = new

    def put_back(self, found: Object) -> None:
        """An object that was there before a restart."""
        place = self.place(found.bck, found.name)
        with self.lock:
            self._directories.update(_directories_of(place))
            self._objects[place] = found

    def changed(self, found: Object) -> None:
        """An object's metadata have changed in place."""
        with self.lock:
            self._keep(self.place(found.bck, found.name), found)

    def remove(self, bck: Bck, name: str) -> bool:
        """Delete an object; False if there is none."""
        place = self.place(bck, name)
        with self.lock:
            old = self._objects.pop(place, None)
            if old is None:
                return False
            self._keep(place, None)
            self._directories.subtract(_directories_of(place))
            self._unlink_files(old)
            return True

    def lose_parts_of(self, bck: Bck, name: str) -> None:
        """A failed complete has removed the files of a former object made of parts; its metadata stay cached (H6)."""
        with self.lock:
            place = self.place(bck, name)
            old = self._objects.get(place)
            if old is not None and old.parts:
                self._keep(place, None)
                self._unlink_files(old)
                old.parts, old.ghost = (), True

    def read(self, found: Object, offset: int, size: int) -> Segments:
        """The pieces of a stretch of an object, as its files are at this moment."""
        if not self.blobs.readable:
            raise Refusal(501, "this mock of AIStore is a sink: it has counted and hashed the bytes, and kept none")
        if not found.parts:
            return Segments([(found.main, offset, size)] if size else [])
        pieces: list[tuple[Blob | None, int, int]] = []
        with self.lock:
            for part in found.parts:
                if offset < part.size and size:
                    taken = min(size, part.size - offset)
                    pieces.append((self._blob_of(found, part), offset, taken))
                    size -= taken
                offset = max(0, offset - part.size)
        return Segments(pieces)

    def drop_bucket(self, bck: Bck) -> None:
        """Remove a bucket's objects and all files of parts in it."""
        with self.lock:
            for place in [place for place in self._objects if place.bck == bck]:
                self._keep(place, None)
                self._unlink_files(self._objects.pop(place))
            for place in [place for place in self._directories if place.bck == bck]:
                del self._directories[place]
            for key in [key for key in self._files if key.bck == bck]:
                self.unlink_part(key)

    def hand_over(self, place: Place, to: Store) -> None:
        """Move an object and the files of its parts to another target's store, as a rebalance does."""
        with self.lock:
            moved = self._objects.pop(place)
            self._directories.subtract(_directories_of(place))
            files = {part.key: self._files.pop(part.key) for part in moved.parts if part.key in self._files}
        with to.lock:
            to._files.update(files)
            there = to.place(moved.bck, moved.name)
            if there not in to._objects:
                to._directories.update(_directories_of(there))
            to._objects[there] = moved
            to._keep(there, moved)
        with self.lock:
            self._keep(place, None)

    @property
    def stored_bytes(self) -> int:
        """Bytes in all files, those of unfinished and forgotten uploads included."""
        with self.lock:
            mains = sum(item.main.size for item in self._objects.values() if not item.ghost)
            return mains + sum(file.blob.size for file in self._files.values())

    # -- files of parts

    def link_part(self, key: PartKey, file: PartFile) -> None:
        """Create the file of a part; if it is there, the new attempt truncates it."""
        with self.lock:
            old = self._files.get(key)
            self._files[key] = file
        if old is not None:
            old.blob.unlink()

    def unlink_part(self, key: PartKey) -> None:
        """Remove the file of a part, if it is there, whoever wrote it."""
        with self.lock:
            file = self._files.pop(key, None)
        if file is not None:
            file.blob.unlink()

    def holds_part(self, key: PartKey, file: PartFile) -> bool:
        """Whether the file of a part is still this one."""
        return self._files.get(key) is file

    def take_part(self, key: PartKey) -> PartFile | None:
        """Take the file of a part out, to become an object's main file; None if it is missing."""
        with self.lock:
            return self._files.pop(key, None)

    def part_file(self, key: PartKey) -> Blob | None:
        """The file of a part, if it is there."""
        file = self._files.get(key)
        return file.blob if file is not None else None

    def keep_checkpoint(self, upload_id: str, checkpoint: dict[str, Any] | None) -> None:
        """What a restart is to find of an unfinished upload (see `Records.keep_upload`)."""
        with self.lock:
            if self._keeper is not None:
                self._keeper.keep_upload(self, upload_id, checkpoint)

    def _keep(self, place: Place, found: Object | None) -> None:
        if self._keeper is not None:
            try:
                self._keeper.keep(self, place, found)
            except OSError as error:
                raise out_of_space(error) from error

    def _blob_of(self, found: Object, part: PartRef) -> Blob | None:
        if part is found.parts[0]:
            return found.main
        file = self._files.get(part.key)
        return file.blob if file is not None and file.whole else None

    def _unlink_files(self, old: Object) -> None:
        old.main.unlink()
        for part in old.parts[1:]:
            self.unlink_part(part.key)

    def _refuse_clash(self, place: Place) -> None:
        """Objects are files: no name can be a directory of another one on the same disk (protocol 1.6)."""
        if not self.quirks.disk_paths_show:
            return
        if any(directory in self._objects for directory in _directories_of(place)):
            raise Refusal(400, "destination contains an object in its path", "ErrMv")
        if self._directories[place] > 0:
            raise Refusal(400, "destination exists and is a virtual directory", "ErrMv")


def _directories_of(place: Place) -> list[Place]:
    """The directories above an object."""
    segments = place.path.split("/")
    return [place._replace(path="/".join(segments[:depth])) for depth in range(1, len(segments))]
