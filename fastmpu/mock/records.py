"""What a directory remembers of a cluster: who its nodes are, its buckets, and each target's objects (see `catalogue`).

Unfinished uploads are forgotten, as AIStore's targets forget them, unless the bucket keeps checkpoints (protocol 5.4).
Files that nothing names any more are removed on starting. A part's file that has been unlinked by mistake stays missed:
the object's record names it, and reading breaks off there.

Threads: `Records` is called under its store's lock.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastmpu.mock.blobs import Blob, BlobsInDirectory, FileBlob
from fastmpu.mock.catalogue import Catalogue
from fastmpu.mock.checksums import Checksum
from fastmpu.mock.names import Bck
from fastmpu.mock.store import Object, PartFile, PartKey, PartRef, Place, Store

__all__ = ["Identity", "Records"]

_OBJECT = "object "
_UPLOAD = "upload "
_CLUSTER = "cluster"


class Identity:
    """The ids of a cluster and its nodes, which outlive a restart."""

    def __init__(self, catalogue: Catalogue | None) -> None:
        self._catalogue = catalogue
        known = catalogue.records.get(_CLUSTER, {}) if catalogue is not None else {}
        self.proxy: str = known.get("proxy", "")
        self.uuid: str = known.get("uuid", "")
        self.targets: list[str] = known.get("targets", [])

    def keep(self, proxy: str, uuid: str, targets: list[str]) -> None:
        if self._catalogue is not None:
            self._catalogue.put(_CLUSTER, {"proxy": proxy, "uuid": uuid, "targets": targets})


class Records:
    """The book of one target's objects. Paths in it are relative to the cluster's directory."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        self._directory = directory
        self._catalogue = catalogue

    def keep(self, store: Store, place: Place, found: Object | None) -> None:
        """An object is new or changed; None: it is gone."""
        key = _OBJECT + json.dumps([place.mountpath, _bck_key(place.bck), place.path])
        self._catalogue.put(key, None if found is None or found.ghost else self._object_record(store, found))

    def keep_upload(self, store: Store, id_: str, checkpoint: dict[str, Any] | None) -> None:
        """A checkpoint of an upload: its identity and `parts`, number -> (size, crc). None: it is over."""
        if checkpoint is not None:
            bck, name, parts = checkpoint["bck"], checkpoint["name"], checkpoint["parts"]
            files = {number: store.part_file(PartKey(bck, name, id_, number)) for number in parts}
            lines = [[number, size, crc, self._name_of(files[number])] for number, (size, crc) in parts.items()]
            checkpoint = {"bck": _bck_key(bck), "name": name, "every": checkpoint["every"], "parts": lines}
        self._catalogue.put(_UPLOAD + id_, checkpoint)

    def restore(self, store: Store, blobs: BlobsInDirectory) -> list[dict[str, Any]]:
        """Fill a store, and return the checkpoints as `keep_upload` got them, with their `id`."""
        uploads = []
        for key, record in self._catalogue.records.items():
            if key.startswith(_OBJECT):
                self._restore_object(store, blobs, record)
            elif key.startswith(_UPLOAD):
                uploads.append(self._restore_upload(store, blobs, key.removeprefix(_UPLOAD), record))
        return uploads

    def files(self) -> set[Path]:
        """All files that the book names."""
        named = []
        for key, record in self._catalogue.records.items():
            if key.startswith(_OBJECT):
                named += [record["main"], *(line[5] for line in record["parts"])]
            elif key.startswith(_UPLOAD):
                named += [line[3] for line in record["parts"]]
        return {self._directory / name for name in named if name}

    def close(self) -> None:
        self._catalogue.close()

    def _object_record(self, store: Store, found: Object) -> dict[str, Any]:
        parts = []
        for part in found.parts:
            blob = found.main if part is found.parts[0] else store.part_file(part.key)
            key = part.key
            parts.append(
                [_bck_key(key.bck), key.object_name, key.upload_id, key.number, part.size, self._name_of(blob)]
            )
        return {
            "bck": _bck_key(found.bck),
            "name": found.name,
            "size": found.size,
            "checksum": list(found.checksum) if found.checksum is not None else None,
            "main": self._name_of(found.main),
            "main_size": found.main.size,
            "parts": parts,
            "custom": found.custom,
            "version": found.version,
            "atime_ns": found.atime_ns,
            "modified": found.modified,
        }

    def _restore_object(self, store: Store, blobs: BlobsInDirectory, record: dict[str, Any]) -> None:
        bck = _bck_of_key(record["bck"])
        parts = []
        for at, (owner, name, upload_id, number, size, path) in enumerate(record["parts"]):
            key = PartKey(_bck_of_key(owner), name, upload_id, number)
            parts.append(PartRef(key, size))
            if at and path and (file := self._directory / path).exists():
                store.link_part(key, PartFile(blobs.adopt(file, size), whole=True))
        checksum = Checksum(*record["checksum"]) if record["checksum"] else None
        main = blobs.adopt(self._directory / record["main"], record["main_size"])
        found = Object(bck, record["name"], record["size"], checksum, main, tuple(parts), record["custom"])
        found.version, found.atime_ns, found.modified = record["version"], record["atime_ns"], record["modified"]
        store.put_back(found)

    def _restore_upload(
        self, store: Store, blobs: BlobsInDirectory, id_: str, record: dict[str, Any]
    ) -> dict[str, Any]:
        bck, name, parts = _bck_of_key(record["bck"]), record["name"], {}
        for number, size, crc, path in record["parts"]:
            parts[number] = (size, crc)
            if path and (file := self._directory / path).exists():
                store.link_part(PartKey(bck, name, id_, number), PartFile(blobs.adopt(file, size), whole=True))
        return {"id": id_, "bck": bck, "name": name, "every": record["every"], "parts": parts}

    def _name_of(self, blob: Blob | None) -> str:
        return str(blob.path.relative_to(self._directory)) if isinstance(blob, FileBlob) else ""


def _bck_key(bck: Bck) -> list[str]:
    return [bck.name, bck.provider, bck.uuid, bck.namespace]


def _bck_of_key(key: list[str]) -> Bck:
    return Bck(*key)
