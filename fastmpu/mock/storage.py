"""What a cluster's bytes lie in, and what of it outlives the process: memory, a directory, or a sink.

A directory holds `cluster.jsonl` (ids and buckets), and a directory for each target with `objects.jsonl` and its files.
A cluster that starts on it later is the same one: nodes' ids, buckets, objects, checksums, versions.

Threads: opened and closed by the one that starts and stops the cluster; the parts have locks of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastmpu.mock.blobs import Blobs, BlobsInDirectory, BlobsInMemory, BlobsInSink, Budget
from fastmpu.mock.catalogue import Catalogue
from fastmpu.mock.quirks import Quirks
from fastmpu.mock.records import Identity, Records
from fastmpu.mock.store import Store

__all__ = ["Storage"]


class Storage:
    """Makes the targets' stores. At most one of a directory, a limit to memory, and a sink can be asked for."""

    def __init__(self, directory: Path | None, memory_limit: int | None, *, sink: bool) -> None:
        if (directory is not None) + (memory_limit is not None) + sink > 1:
            raise ValueError("objects lie in a directory, or in memory up to memory_limit, or in a sink: choose one")
        if memory_limit is not None and memory_limit < 0:
            raise ValueError(f"memory_limit is in bytes, 0 or more, not {memory_limit}")
        self._directory = directory
        self._memory_limit = memory_limit
        self._sink = sink
        self._records: list[Records] = []
        self._files: list[BlobsInDirectory] = []
        self.catalogue: Catalogue | None = None
        """The cluster's own; None without a directory."""

    def open(self) -> Identity:
        """Find out whose it is. OSError if the directory is in use, or will not do."""
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self.catalogue = Catalogue(self._directory / "cluster.jsonl")
        self._budget = None if self._memory_limit is None else Budget(self._memory_limit)
        return Identity(self.catalogue)

    def store(self, id_: str, quirks: Quirks) -> tuple[Store, list[dict[str, Any]]]:
        """A target's store, filled with what is there, and the checkpoints of its unfinished uploads."""
        if self._directory is None:
            blobs: Blobs = BlobsInSink() if self._sink else BlobsInMemory(self._budget)
            return Store(blobs, quirks), []
        files = BlobsInDirectory(self._directory / id_)
        records = Records(self._directory, Catalogue(self._directory / id_ / "objects.jsonl"))
        self._records.append(records)
        self._files.append(files)
        store = Store(files, quirks, records)
        return store, records.restore(store, files)

    def sweep(self) -> None:
        """Remove what earlier runs have left and nothing names; when all stores are filled."""
        kept = {path for records in self._records for path in records.files()}
        for files in self._files:
            files.sweep(kept)

    def close(self) -> None:
        for records in self._records:
            records.close()
        if self.catalogue is not None:
            self.catalogue.close()
        self._records, self._files, self.catalogue = [], [], None
