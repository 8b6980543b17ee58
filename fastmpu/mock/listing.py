"""Lists of objects, gathered by the proxy from all targets (protocol 4.5)."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastmpu.mock.answers import Answer, json_answer
from fastmpu.mock.archives import is_archive, members
from fastmpu.mock.cluster_map import ClusterMap
from fastmpu.mock.messages import fields_of
from fastmpu.mock.msgpack import pack
from fastmpu.mock.names import Bck, has_long_segment
from fastmpu.mock.store import Object, Place, Store
from fastmpu.mock.uploads import Uploads

__all__ = ["Shelf", "list_objects"]

_FIELDS: dict[str, type] = {
    "uuid": str,
    "props": str,
    "time_format": str,
    "prefix": str,
    "continuation_token": str,
    "flags": str,
    "pagesize": int,
    "start_after": str,
    "target": str,
}
_PAGE = 10_000
_IN_SHARDS = 1 << 3  # of the request's flags: what is in archives, too
_NAME_ONLY = 1 << 4
_NAME_AND_SIZE = 1 << 5
_IN_CLUSTER = 1 << 6  # of an entry's flags
_HAS_PARTS = 1 << 13
# An entry's keys in JSON and in MessagePack; `size` is text in one and a number in the other.
_MSGPACK_KEYS = {
    "name": "n",
    "checksum": "cs",
    "atime": "a",
    "version": "v",
    "location": "t",
    "custom-md": "m",
    "size": "s",
    "copies": "c",
    "flags": "f",
}


@dataclass(frozen=True)
class Shelf:
    """A target as lists see it."""

    id: str
    label: str
    store: Store
    uploads: Uploads


def list_objects(
    shelves: Sequence[Shelf], cluster_map: ClusterMap, bck: Bck, value: Any, *, node: str, uuid: str, msgpack: bool
) -> Answer:
    """One page. Its token is the last name, also of a page that happens to end the list exactly."""
    asked = fields_of(value, _FIELDS, node)
    after = max(asked["continuation_token"], asked["start_after"])
    flags = int(asked["flags"]) if asked["flags"].isdigit() else 0
    found = _named(shelves, cluster_map, bck, asked["prefix"])
    if flags & _IN_SHARDS:
        found = _with_members(found)
    wanted = ((name, shelf, item) for name, shelf, item in found if name > after)
    limit = asked["pagesize"] if asked["pagesize"] > 0 else _PAGE
    page = heapq.nsmallest(limit, wanted, key=lambda entry: entry[0])
    props = _props(asked["props"], flags)
    entries = [_entry(name, shelf, item, props) for name, shelf, item in page]
    token = page[-1][0] if len(page) == limit else ""
    uuid = asked["uuid"] or uuid
    if not msgpack:
        for entry in entries:
            if "size" in entry:
                entry["size"] = str(entry["size"])
        return json_answer({"uuid": uuid, "continuation_token": token, "entries": entries or None, "flags": 0})
    packed = [{_MSGPACK_KEYS[key]: item for key, item in entry.items()} for entry in entries]
    body = pack({"UUID": uuid, "ContinuationToken": token, "Entries": packed or None, "Flags": 0})
    return Answer(200, [("Content-Type", "application/msgpack")], body)


def _named(
    shelves: Sequence[Shelf], cluster_map: ClusterMap, bck: Bck, prefix: str
) -> Iterator[tuple[str, Shelf, Object]]:
    for shelf in shelves:
        for place, item in _with_prefix(shelf.store, bck, prefix):
            if has_long_segment(item.name):
                if not prefix:  # only its hash is a file's name, and that has no such prefix
                    yield item.name, shelf, item
            elif _is_at_home(shelf, cluster_map, place):
                yield place.path, shelf, item


def _with_members(found: Iterable[tuple[str, Shelf, Object]]) -> Iterator[tuple[str, Shelf, Object]]:
    """Each shard, and after it the files in it, as if it were a directory."""
    for name, shelf, item in found:
        yield name, shelf, item
        if is_archive(name) and shelf.store.blobs.readable:
            try:
                data = shelf.store.read(item, 0, item.size).read()
            except (LookupError, OSError):
                continue  # a part is missing, or the object has gone meanwhile
            for inside, size in members(name, data):
                yield f"{name}/{inside}", shelf, replace(item, name=f"{name}/{inside}", size=size, checksum=None)


def _is_at_home(shelf: Shelf, cluster_map: ClusterMap, place: Place) -> bool:
    """A list reads names off the disk, and leaves out files that lie where their names do not belong (H10)."""
    owner = cluster_map.owner(place.bck.uname(place.path))
    return owner.id == shelf.id and shelf.store.place(place.bck, place.path) == place


def _with_prefix(store: Store, bck: Bck, prefix: str) -> Iterable[tuple[Place, Object]]:
    """Objects with the prefix. On a disk that has a directory of that very name only what is in it (protocol 10)."""
    matching = [(place, item) for place, item in store.objects(bck) if place.path.startswith(prefix)]
    if not prefix or prefix.endswith("/") or not store.quirks.disk_paths_show:
        return matching
    within = prefix + "/"
    narrowed = {place.mountpath for place, _ in matching if place.path.startswith(within)}
    return [
        (place, item) for place, item in matching if place.mountpath not in narrowed or place.path.startswith(within)
    ]


def _props(asked: str, flags: int) -> set[str]:
    if flags & _NAME_ONLY:
        return set()
    if flags & _NAME_AND_SIZE or not asked:
        return {"size"}
    return set(asked.replace(" ", "").split(","))


def _entry(name: str, shelf: Shelf, item: Object, props: set[str]) -> dict[str, Any]:
    """The properties asked for, those that are zero or empty left out."""
    offers: dict[str, Any] = {
        "checksum": item.checksum.value if item.checksum else "",
        "atime": time.strftime("%d %b %y %H:%M UTC", time.gmtime(item.atime_ns / 1e9)),
        "version": str(item.version),
        "location": f"{shelf.label}:mp[{shelf.store.mountpath(item.bck, item.name)}]",
        "custom-md": ", ".join(f"{key}:{value}" for key, value in item.custom.items()),
        "size": item.size,
        "copies": 1,
    }
    asked = {"custom-md" if prop == "custom" else prop for prop in props}
    chosen = {key: value for key, value in offers.items() if key in asked and value}
    return {"name": name} | chosen | {"flags": _IN_CLUSTER | (_HAS_PARTS if item.parts else 0)}
