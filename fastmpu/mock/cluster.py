"""A cluster in one process: a proxy, its targets, and the sockets they listen on.

Threads: `Cluster` starts a server for every node (see `server`) and is used from the thread that made it; its
properties may be read from any.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import TracebackType
from typing import Literal

from fastmpu.mock.blobs import BlobsInDirectory, BlobsInMemory
from fastmpu.mock.buckets import Buckets
from fastmpu.mock.cluster_map import MAINTENANCE, ClusterMap, Node, new_id
from fastmpu.mock.listing import Shelf
from fastmpu.mock.proxy import ProxyNode
from fastmpu.mock.quirks import PROFILES, Quirks
from fastmpu.mock.server import CpuClock, Handler, Server
from fastmpu.mock.store import Store
from fastmpu.mock.target import TargetNode
from fastmpu.mock.wire import Timings

__all__ = ["Cluster", "Target"]


class Target:
    """A running target: its `id`, its `url`, and what can happen to it."""

    def __init__(self, cluster: Cluster, node: TargetNode, server: Server, url: str) -> None:
        self.id = node.id
        self.url = url
        self._cluster = cluster
        self._node = node
        self._server = server

    def __repr__(self) -> str:
        return f"<Target {self.id} {self.url}>"

    def restart(self) -> None:
        """Lose all connections and, but for checkpoints, all unfinished uploads. Files stay (protocol 5.2, 5.4)."""
        self._server.stop()
        self._node.uploads.restart()
        self._server.start()

    def maintain(self) -> None:
        """Put the target in maintenance: its names and objects move to the others, its uploads do not."""
        self._cluster._flag(self.id, MAINTENANCE)

    def activate(self) -> None:
        """End the maintenance: names and objects come back."""
        self._cluster._flag(self.id, 0)

    def remove(self) -> None:
        """Let the target leave the cluster and end."""
        self._cluster._remove(self)


class Cluster:
    """AIStore's double: starts on entering, or by `start`, and is gone after `stop`.

    `port` is the proxy's; 0, as the targets', lets the system choose. Objects lie in memory, or in files under
    `directory`. `quirks="fixed"` turns off what loses data in AIStore v5.0. The timeouts are AIStore's, in seconds.
    """

    def __init__(
        self,
        targets: int = 3,
        *,
        directory: str | os.PathLike[str] | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        quirks: Literal["v5.0", "fixed"] | Quirks = "v5.0",
        header_timeout: float = 16.0,
        idle_timeout: float = 30.0,
        closing_delay: float = 0.5,
        seed: int | None = None,
    ) -> None:
        if targets < 1:
            raise ValueError(f"a cluster has at least one target, not {targets}")
        if isinstance(quirks, str) and quirks not in PROFILES:
            raise ValueError(f"quirks is one of {', '.join(PROFILES)}, not {quirks!r}")
        self._quirks = PROFILES[quirks] if isinstance(quirks, str) else quirks
        self._count = targets
        self._directory = None if directory is None else Path(directory)
        self._host, self._port = host, port
        self._timings = Timings(header_timeout, idle_timeout, closing_delay)
        self._generator = random.Random(seed)
        self._clock = CpuClock()
        self._targets: list[Target] = []
        self._shelves: list[Shelf] = []
        self._proxy: Server | None = None

    def __repr__(self) -> str:
        state = f"{self.endpoint} {len(self._targets)} targets" if self._proxy else "stopped"
        return f"<Cluster {state}>"

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Cluster:
        """Listen on all ports and answer. All that an earlier run stored is gone."""
        if self._proxy is not None:
            raise RuntimeError("the cluster is running")
        self._buckets = Buckets()
        self._shelves, self._targets = [], []
        proxy_id = new_id(self._generator)
        # The proxy's handler needs the map, which needs the proxy's port, which the listener has first.
        proxy: list[ProxyNode] = []
        server = self._server(lambda exchange: proxy[0].handle(exchange), f"p[{proxy_id}]", self._port)
        server.bind()
        self._map = ClusterMap(Node(proxy_id, "proxy", self._host, server.port), new_id(self._generator, 9))
        proxy.append(ProxyNode(self._map, self._buckets, self._active_shelves, self._quirks, self._generator))
        self._proxy = server
        for _ in range(self._count):
            self._add_target()
        server.start()
        return self

    def stop(self) -> None:
        """End all connections, threads and listeners; memory goes with the cluster's last reference."""
        if self._proxy is None:
            return
        for server in [self._proxy, *(target._server for target in self._targets)]:
            server.stop()
        self._proxy = None

    @property
    def endpoint(self) -> str:
        """The proxy's URL."""
        if self._proxy is None:
            raise RuntimeError("the cluster is not running")
        return self._map.proxy.url

    @property
    def targets(self) -> list[Target]:
        return list(self._targets)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the cluster's threads, up to each one's latest answer."""
        return self._clock.seconds

    @property
    def stored_bytes(self) -> int:
        """Bytes that lie in the targets, those of unfinished uploads included."""
        return sum(shelf.store.stored_bytes for shelf in self._shelves)

    def _server(self, handler: Handler, node: str, port: int) -> Server:
        return Server(handler, node=node, host=self._host, port=port, timings=self._timings, clock=self._clock)

    def _add_target(self) -> None:
        id_ = new_id(self._generator)
        blobs = BlobsInMemory() if self._directory is None else BlobsInDirectory(self._directory / id_)
        store = Store(blobs, self._quirks)
        node = TargetNode(id_, store, self._buckets, self._map, self._generator)
        server = self._server(node.handle, node.label, 0)
        server.start()
        entry = Node(id_, "target", self._host, server.port)
        self._map.add(entry)
        self._shelves.append(Shelf(id_, node.label, store))
        self._targets.append(Target(self, node, server, entry.url))

    def _active_shelves(self) -> list[Shelf]:
        return list(self._shelves)

    def _flag(self, id_: str, flags: int) -> None:
        self._map.set_flags(id_, flags)
        self._rebalance()

    def _remove(self, target: Target) -> None:
        self._map.set_flags(target.id, MAINTENANCE)
        self._rebalance()
        self._map.remove(target.id)
        target._server.stop()
        self._targets.remove(target)
        self._shelves = [shelf for shelf in self._shelves if shelf.id != target.id]

    def _rebalance(self) -> None:
        """Move every object to its owner; with no active target all stay where they are."""
        stores = {shelf.id: shelf.store for shelf in self._shelves}
        for id_, store in stores.items():
            for place, found in store.objects():
                try:
                    owner = self._map.owner(found.bck.uname(found.name)).id
                except LookupError:
                    return
                if owner != id_:
                    store.hand_over(place, stores[owner])
