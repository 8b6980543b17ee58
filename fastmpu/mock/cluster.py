"""A cluster in one process: a proxy, its targets, and the sockets they listen on.

Threads: `Cluster` starts a server for every node (see `server`) and is used from the thread that made it; its
properties may be read from any.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from fastmpu.mock.auth import Tokens
from fastmpu.mock.buckets import Buckets
from fastmpu.mock.cluster_map import MAINTENANCE, ClusterMap, Node, new_id
from fastmpu.mock.control import ControlPort
from fastmpu.mock.fault_nodes import NodeFaults
from fastmpu.mock.faults import Fault, Faults, Site
from fastmpu.mock.inside import BucketView
from fastmpu.mock.links import Link
from fastmpu.mock.listing import Shelf
from fastmpu.mock.mishaps import Watch
from fastmpu.mock.network import Network
from fastmpu.mock.proxy import ProxyNode
from fastmpu.mock.quirks import PROFILES, Quirks
from fastmpu.mock.server import Server
from fastmpu.mock.signing import Signer
from fastmpu.mock.storage import Storage
from fastmpu.mock.target import TargetNode
from fastmpu.mock.tls import Tls
from fastmpu.mock.truth import Truth
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

    def restart(self, *, keep_uploads: bool = False) -> None:
        """Lose all connections and, but for checkpoints, all unfinished uploads. Files stay (protocol 5.2, 5.4)."""
        self._server.stop()
        if not keep_uploads:
            self._node.uploads.restart()
        self._server.start()

    def kill(self) -> None:
        """End, without a word to the cluster map. `restart` brings the target back."""
        self._server.stop()

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

    `port` is the proxy's; 0, as the targets', lets the system choose. `quirks="fixed"` turns off what loses data in
    AIStore v5.0. The timeouts are AIStore's, in seconds.

    Objects lie in memory, of at most `memory_limit` bytes (507 beyond); or in files under `directory`, where the next
    cluster finds them; or nowhere, with `sink`: they are counted and hashed, HEAD tells so, and GET is refused (501).

    `tls` makes all nodes speak HTTPS, "self-made" with certificates made for this run. `tokens` that the proxy asks
    for, and `signed_redirects`, close the targets to those who come without the proxy. `link` is a model of a network.

    `faults` are in force from the start; more can be added to `.faults`. `.truth` is the log of what really happened.
    With a `control_port` both can be reached over HTTP.
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
        memory_limit: int | None = None,
        sink: bool = False,
        tls: Tls | Literal["self-made"] | None = None,
        tokens: Tokens | Iterable[str] | None = None,
        signed_redirects: bool = False,
        link: Link | None = None,
        faults: Iterable[Fault | str] = (),
        control_port: int | None = None,
    ) -> None:
        if targets < 1:
            raise ValueError(f"a cluster has at least one target, not {targets}")
        if isinstance(quirks, str) and quirks not in PROFILES:
            raise ValueError(f"quirks is one of {', '.join(PROFILES)}, not {quirks!r}")
        self._quirks = replace(PROFILES[quirks] if isinstance(quirks, str) else quirks)
        self._count = targets
        self._storage = Storage(None if directory is None else Path(directory), memory_limit, sink=sink)
        self._network = Network(host, Timings(header_timeout, idle_timeout, closing_delay), tls, link)
        self._port = port
        if isinstance(tokens, str):
            raise ValueError("tokens is a Tokens or several strings, not one")
        self.tokens = tokens if isinstance(tokens, Tokens) or tokens is None else Tokens(*tokens)
        self._signs = signed_redirects
        self._generator = random.Random(seed)
        self._targets: list[Target] = []
        self._shelves: list[Shelf] = []
        self._proxy: Server | None = None
        self.faults = Faults()
        self.truth = Truth()
        self._node_faults = NodeFaults(self)
        self._control_port = control_port
        self._control: ControlPort | None = None
        self.faults.at_once, self.faults.undo = self._node_faults.at_once, self._node_faults.undo
        self.faults.check, self.faults.changed = self._node_faults.check, self._node_faults.changed
        for fault in [faults] if isinstance(faults, str) else faults:
            self.faults.add(fault)

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
        """Listen on all ports and answer. What an earlier run stored is there if there is a directory, else gone."""
        if self._proxy is not None:
            raise RuntimeError("the cluster is running")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self._shelves, self._targets = [], []
        self._network.open()
        known = self._storage.open()
        if len(known.targets) > self._count:
            raise ValueError(f"the directory holds a cluster of {len(known.targets)} targets, not {self._count}")
        self._buckets = Buckets(self._storage.catalogue)
        self._signer = Signer() if self._signs else None
        proxy_id = known.proxy or new_id(self._generator)
        # The proxy's handler needs the map, which needs the proxy's port, which the listener has first.
        proxy: list[ProxyNode] = []
        self._proxy = self._network.server(
            lambda exchange: proxy[0].handle(exchange), f"p[{proxy_id}]", self._port, "proxy"
        )
        self._proxy.watch = self._watch(Site("proxy", 0, proxy_id))
        self._proxy.bind()
        entry = self._entry(proxy_id, "proxy", self._proxy, self._signer.verifying_key if self._signer else "")
        self._map = ClusterMap(entry, known.uuid or new_id(self._generator, 9))
        proxy.append(
            ProxyNode(
                self._map,
                self._buckets,
                self._active_shelves,
                self._quirks,
                self._generator,
                tokens=self.tokens,
                signer=self._signer,
            )
        )
        for at in range(self._count):
            self._add_target(known.targets[at] if at < len(known.targets) else new_id(self._generator))
        self._storage.sweep()
        self._identity = known
        self._keep_identity()
        if known.targets:
            self._rebalance()  # there may be more targets than there were
        self._proxy.start()
        self._node_faults.start()
        if self._control_port is not None:
            self._control = ControlPort(self, self._network.host, self._control_port)
            self._control.start()

    def stop(self) -> None:
        """End all connections, threads and listeners; memory goes with the cluster's last reference."""
        if self._control is not None:
            self._control.stop()
            self._control = None
        self._node_faults.stop()
        for target in self._targets:
            target._server.stop()
        if self._proxy is not None:
            self._proxy.stop()
        self._proxy = None
        self._storage.close()
        self._network.close()

    @property
    def endpoint(self) -> str:
        """The proxy's URL."""
        if self._proxy is None:
            raise RuntimeError("the cluster is not running")
        return self._map.proxy.url

    @property
    def control(self) -> str:
        """The control port's URL."""
        if self._control is None:
            raise RuntimeError("the cluster has no control port: Cluster(control_port=0)")
        return self._control.url

    @property
    def is_running(self) -> bool:
        return self._proxy is not None

    @property
    def targets(self) -> list[Target]:
        return list(self._targets)

    @property
    def ca_file(self) -> Path | None:
        """The file of the authority that clients are to trust; None without TLS, and where only the giver knows it."""
        return self._network.ca_file

    @property
    def environment(self) -> dict[str, str]:
        """What clients read from their environment to get here: endpoint, authority, and the first token."""
        found = {"AIS_ENDPOINT": self.endpoint}
        if self.ca_file is not None:
            found["AIS_CLIENT_CA"] = str(self.ca_file)
        if self.tokens is not None and self.tokens.first is not None:
            found["AIS_AUTHN_TOKEN"] = self.tokens.first
        return found

    def bucket(self, name: str) -> BucketView:
        """A bucket seen from within, made if it does not exist: what tests put in and find, without a client."""
        _ = self.endpoint
        return BucketView(name, self._buckets, self._map, self._active_shelves)

    def set_tls(self, tls: Tls | str, node: str | None = None) -> None:
        """Swap the certificate while running: of "proxy", of the target with an id, or of all nodes.

        With self-made certificates `tls` may be a kind: "good", "expired", "not_yet_valid", "wrong_host", "wrong_ca",
        "self_signed". Connections that are open keep what they have.
        """
        self._network.set_tls(tls, node)

    def cut_handshakes(self, times: int = 1, node: str | None = None) -> None:
        """End the next connections in the middle of their TLS handshake."""
        self._network.cut_handshakes(times, node)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the cluster's threads, up to each one's latest answer."""
        return self._network.clock.seconds

    @property
    def stored_bytes(self) -> int:
        """Bytes that lie in the targets, those of unfinished uploads included."""
        return sum(shelf.store.stored_bytes for shelf in self._shelves)

    def _add_target(self, id_: str) -> None:
        store, checkpoints = self._storage.store(id_, self._quirks)
        mediated = self.tokens is not None or self._signer is not None
        node = TargetNode(id_, store, self._buckets, self._map, self._generator, signer=self._signer, mediated=mediated)
        for checkpoint in checkpoints:
            node.uploads.restore(checkpoint)
        server = self._network.server(node.handle, node.label, 0, id_)
        server.watch = self._watch(Site("target", len(self._targets), id_))
        server.start()
        entry = self._entry(id_, "target", server)
        self._map.add(entry)
        self._shelves.append(Shelf(id_, node.label, store, node.uploads))
        self._targets.append(Target(self, node, server, entry.url))

    def _watch(self, site: Site) -> Watch:
        do, nodes = self._node_faults.on_request, lambda: (self._map.proxy, self._map.targets)
        return Watch(site, self.faults, self.truth, do, nodes)

    def _sites(self) -> list[Site]:
        """All nodes as faults name them, the proxy first."""
        return [server.watch.site for server in self._servers()]

    def _server_at(self, site: Site) -> Server | None:
        return next((server for server in self._servers() if server.watch.site == site), None)

    def _servers(self) -> list[Server]:
        first = [] if self._proxy is None else [self._proxy]
        return first + [target._server for target in self._targets]

    def _entry(self, id_: str, type_: str, server: Server, key: str = "") -> Node:
        return Node(id_, type_, server.host, server.port, scheme=self._network.scheme, verifying_key=key)

    def _keep_identity(self) -> None:
        self._identity.keep(self._map.proxy.id, self._map.uuid, [shelf.id for shelf in self._shelves])

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
        self._keep_identity()

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
