"""A bucket seen from within the cluster, for tests: what is stored, without a client, tokens or TLS in between.

Threads: any; everything goes through the stores' locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastmpu.mock.buckets import Buckets
from fastmpu.mock.checksums import Checksum, new_hasher
from fastmpu.mock.cluster_map import ClusterMap
from fastmpu.mock.listing import Shelf
from fastmpu.mock.names import Bck, check_object_name
from fastmpu.mock.store import Object, Store

__all__ = ["BucketView"]


class BucketView:
    """A bucket's objects, as GET through the proxy would find them. `read` breaks off where GET would."""

    def __init__(
        self, name: str, buckets: Buckets, cluster_map: ClusterMap, shelves: Callable[[], list[Shelf]]
    ) -> None:
        self.name = name
        self._bck = Bck(name)
        self._buckets = buckets
        self._map = cluster_map
        self._shelves = shelves
        if self._bck not in buckets.all():
            buckets.create(self._bck, None, cluster_map.proxy.label)

    def __repr__(self) -> str:
        return f"<BucketView {self.uri}>"

    @property
    def uri(self) -> str:
        return f"ais://{self.name}"

    def __contains__(self, name: str) -> bool:
        return self._owner(name).find(self._bck, name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """The objects that are where their names belong, sorted."""
        shelves = self._shelves()
        found = [(item.name, shelf.store) for shelf in shelves for _, item in shelf.store.objects(self._bck)]
        return sorted(name for name, store in found if self._owner(name) is store)

    def read(self, name: str) -> bytes:
        """An object's bytes. KeyError if it does not exist, LookupError if a part is missing, where GET breaks off."""
        store, found = self._found(name)
        if found.ghost:
            raise LookupError(f"{self.uri}/{name} has lost its files")
        return store.read(found, 0, found.size).read()

    def size(self, name: str) -> int:
        return self._found(name)[1].size

    def checksum(self, name: str) -> Checksum | None:
        """Type and value as HEAD tells them."""
        return self._found(name)[1].checksum

    def put(self, name: str, data: bytes) -> None:
        """Store an object, as a PUT does."""
        check_object_name(name)
        store = self._owner(name)
        type_ = self._buckets.find(self._bck).checksum_type
        hasher = None if type_ == "none" else new_hasher(type_)
        blob = store.blobs.create(len(data))
        writer = blob.writer()
        try:
            view, offset = memoryview(data), 0
            while offset < len(view):
                window = writer.window(offset)
                piece = window[: len(view) - offset]
                piece[:] = view[offset : offset + len(piece)]
                writer.keep(offset, piece)
                offset += len(piece)
        finally:
            writer.close()
        if hasher is not None:
            hasher.update(view)
        store.publish(Object(self._bck, name, len(data), Checksum(type_, hasher.hexdigest()) if hasher else None, blob))

    def remove(self, name: str) -> None:
        """KeyError if the object does not exist."""
        if not self._owner(name).remove(self._bck, name):
            raise KeyError(f"{self.uri}/{name} does not exist")

    def _found(self, name: str) -> tuple[Store, Object]:
        store = self._owner(name)
        found = store.find(self._bck, name)
        if found is None:
            raise KeyError(f"{self.uri}/{name} does not exist")
        return store, found

    def _owner(self, name: str) -> Store:
        owner = self._map.owner(self._bck.uname(name)).id
        return next(shelf.store for shelf in self._shelves() if shelf.id == owner)
