"""How a cluster's nodes are reached: host, timings, TLS, and the model of the line to them.

Threads: any. Servers are made while the cluster starts; what may change later, certificates, changes inside `NodeTls`.
The servers' front has a thread of its own, from `open` to `close`.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fastmpu.mock.certificates import KINDS, Authority
from fastmpu.mock.cpu_clock import CpuClock
from fastmpu.mock.front import Front
from fastmpu.mock.links import Link, NodeLink
from fastmpu.mock.server import Handler, Server
from fastmpu.mock.tls import NodeTls, Tls, TlsWire
from fastmpu.mock.wire import Timings, Wire

__all__ = ["Network"]


class Network:
    """Makes the servers of one cluster, between `open` and `close`.

    `tls="self-made"` makes an authority and its certificates, in a directory that goes with `close`.
    """

    def __init__(self, host: str, timings: Timings, tls: Tls | Literal["self-made"] | None, link: Link | None) -> None:
        if isinstance(tls, Tls):
            tls.context()  # complains early
        elif tls not in ("self-made", None):
            raise ValueError(f"tls is a Tls, 'self-made' or None, not {tls!r}")
        self.host = host
        self.clock = CpuClock()
        self.tls: Tls | None = None
        self._asked = tls
        self._timings = timings
        self._link = link
        self._authority: Authority | None = None
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._front: Front | None = None

    def open(self) -> None:
        self._nodes: dict[str, NodeTls] = {}
        self._made = 0
        if self._asked == "self-made":
            self._files = tempfile.TemporaryDirectory(prefix="fastmpu-mock-")
            self._authority = Authority(self._files.name)
            self.tls = self._issue("good")
        else:
            self.tls = self._asked
        if self.tls is None and self._link is None:
            self._front = Front(self.clock)
            self._front.start()

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"

    @property
    def makes_certificates(self) -> bool:
        """Whether there can be certificates by kind."""
        return self._asked == "self-made"

    @property
    def ca_file(self) -> Path | None:
        """What clients are to trust, as far as that is known."""
        return Path(self.tls.ca) if self.tls is not None and self.tls.ca is not None else None

    def server(self, handler: Handler, node: str, port: int, key: str) -> Server:
        """A node's server. `key` names the node to `set_tls`."""
        tls = None
        if self.tls is not None:
            tls = self._nodes[key] = NodeTls(self.tls, self._issue if self.makes_certificates else None)
        link = None
        if self._link is not None:
            link = NodeLink(self._link, f"node {self._made}")  # ids differ from run to run, the order does not
        self._made += 1
        return Server(
            handler,
            node=node,
            host=self.host,
            port=port,
            timings=self._timings,
            clock=self.clock,
            make_wire=_wire_maker(tls, link),
            front=self._front,
        )

    def set_tls(self, tls: Tls | str, key: str | None) -> None:
        """Swap the certificate of one node or of all; a kind of bad certificate makes one of that kind."""
        if isinstance(tls, str):
            if self._authority is None:
                raise ValueError(f"certificates by kind ({', '.join(KINDS)}) are made only with tls='self-made'")
            tls = self._issue(tls)
        for node in self._chosen(key):
            node.use(tls)

    def cut_handshakes(self, times: int, key: str | None) -> None:
        for node in self._chosen(key):
            node.cut_handshakes(times)

    def close(self) -> None:
        """End the front, and remove the certificates that were made."""
        if self._front is not None:
            self._front.stop()
            self._front = None
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    def _issue(self, kind: str) -> Tls:
        assert self._authority is not None
        return self._authority.issue(self.host, *{"localhost", "127.0.0.1", "::1"} - {self.host}, kind=kind)

    def _chosen(self, key: str | None) -> list[NodeTls]:
        if self.tls is None:
            raise RuntimeError("the cluster speaks plain HTTP: Cluster(tls=...)")
        if key is None:
            return list(self._nodes.values())
        if key not in self._nodes:
            raise ValueError(f"a node is one of {', '.join(self._nodes)}, not {key!r}")
        return [self._nodes[key]]


def _wire_maker(tls: NodeTls | None, link: NodeLink | None) -> Callable[[socket.socket, Timings], Wire]:
    def make(sock: socket.socket, timings: Timings) -> Wire:
        lane = link.lane() if link is not None else None
        return Wire(sock, timings, lane) if tls is None else TlsWire(sock, timings, lane, tls)

    return make
