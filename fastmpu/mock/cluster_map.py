"""The cluster map: which nodes there are, where they listen, and which of them owns a name (protocol 6).

Threads: any. Nodes are added and flagged under one lock, and every change raises the version; readers take a snapshot.
"""

from __future__ import annotations

import random
import string
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from fastmpu.mock.placement import digest, owner

__all__ = ["DECOMMISSION", "MAINTENANCE", "ClusterMap", "Node", "new_id"]

MAINTENANCE = 4
DECOMMISSION = 8
_IC_MEMBER = 2


@dataclass(frozen=True)
class Node:
    """One node as the map tells it."""

    id: str
    type: str  # "proxy" or "target"
    host: str
    port: int
    flags: int = 0
    scheme: str = "http"
    verifying_key: str = ""  # of a proxy that signs its redirects

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def active(self) -> bool:
        return not self.flags & (MAINTENANCE | DECOMMISSION)

    @property
    def label(self) -> str:
        """How errors name the node."""
        return f"{self.type[0]}[{self.id}]"

    def as_json(self) -> dict[str, Any]:
        net = {"node_ip_addr": self.host, "daemon_port": str(self.port), "direct_url": self.url}
        key = {"verifying_key": self.verifying_key} if self.verifying_key else {}
        return {
            "public_net": net,
            "intra_control_net": net,
            "intra_data_net": net,
            "daemon_type": self.type,
            "daemon_id": self.id,
            "flags": self.flags,
            "id_digest": digest(self.id),
            **key,
        }


class ClusterMap:
    """One proxy, some targets, and a version that counts the changes."""

    def __init__(self, proxy: Node, uuid: str) -> None:
        self.proxy = replace(proxy, flags=_IC_MEMBER)
        self.version = 1
        self.uuid = uuid
        self._created = time.strftime("%Y-%m-%d %H:%M:%S")
        self._lock = threading.Lock()
        self._nodes: tuple[dict[str, Node], list[tuple[str, int]]] = (
            {},
            [],
        )  # all, and digests of those that own names

    @property
    def targets(self) -> list[Node]:
        return list(self._nodes[0].values())

    def add(self, node: Node) -> None:
        with self._lock:
            self._change(self._nodes[0] | {node.id: node})

    def remove(self, id_: str) -> None:
        with self._lock:
            self._change({key: node for key, node in self._nodes[0].items() if key != id_})

    def set_flags(self, id_: str, flags: int) -> None:
        with self._lock:
            targets = self._nodes[0]
            self._change(targets | {id_: replace(targets[id_], flags=flags)})

    def owner(self, uname: str) -> Node:
        """The target that owns the name; LookupError if no target is active."""
        targets, digests = self._nodes
        if not digests:
            raise LookupError("no active target")
        return targets[owner(digests, digest(uname))]

    def as_json(self) -> dict[str, Any]:
        return {
            "pmap": {self.proxy.id: self.proxy.as_json()},
            "proxy_si": self.proxy.as_json(),
            "tmap": {node.id: node.as_json() for node in self.targets},
            "uuid": self.uuid,
            "creation_time": self._created,
            "version": str(self.version),
        }

    def _change(self, targets: dict[str, Node]) -> None:
        self._nodes = targets, [(node.id, digest(node.id)) for node in targets.values() if node.active]
        self.version += 1


def new_id(generator: random.Random, length: int = 8) -> str:
    """An id as AIStore draws them for nodes and uploads."""
    return "".join(generator.choices(string.ascii_letters + string.digits, k=length))
