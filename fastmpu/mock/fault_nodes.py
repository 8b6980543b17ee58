"""What faults do to nodes: ports that close, targets that restart or go, owners that move, quirks that change.

Threads: each deed runs on a thread of its own, "mock-fault", because the node that ends may be the one whose thread
asks for it. `stop` wakes them, and waits for them; deeds are done one at a time, waits between them overlap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fastmpu.mock.cluster_map import MAINTENANCE
from fastmpu.mock.fault_menu import Value
from fastmpu.mock.faults import Fault, FaultError, Handle, Shot, Site
from fastmpu.mock.heads import Request
from fastmpu.mock.names import bck_of
from fastmpu.mock.operations import operation_of
from fastmpu.mock.quirks import BY_FAULT

if TYPE_CHECKING:
    from fastmpu.mock.cluster import Cluster, Target
    from fastmpu.mock.server import Server

__all__ = ["NodeFaults"]

_PATIENCE = 5.0  # seconds; a node that does not end by then has a handler that hangs


class NodeFaults:
    """Carries out the node faults of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._undoing: dict[int, list[Callable[[], None]]] = {}
        self._over: dict[int, threading.Event] = {}
        self._said: dict[str, list[tuple[int, bool]]] = {}

    def start(self) -> None:
        """The cluster is up: what was added before happens now."""
        self._stopping.clear()
        for handle in self._cluster.faults:
            if handle.fault.immediate and not handle.fired:
                self.at_once(handle)

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:  # a deed that did not see it has its event by now
            events = list(self._over.values())
        for event in events:
            event.set()
        with self._starting:  # so that none is found that is there, but not started
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()
        self._undoing.clear()
        self._over.clear()

    def check(self, fault: Fault) -> None:
        """FaultError if the fault is about a target, or about certificates, that the cluster does not have."""
        if fault.kind == "tls_bad_cert" and not self._cluster._network.makes_certificates:
            raise FaultError("tls_bad_cert needs certificates that are made for the run: tls='self-made', --tls")
        named = fault.parameters.get("target")
        if named is not None and self._cluster.is_running and self._named(named) is None:
            numbers = ", ".join(str(site.number) for site in self._cluster._sites()[1:])
            raise FaultError(f"there is no target {named!r}; there are {numbers}")

    def changed(self) -> None:
        """Faults have come or gone."""
        for server in self._cluster._servers():
            server.prepare()

    def at_once(self, handle: Handle) -> None:
        """A fault that waits for no request. It is done when this returns, but for what takes its time."""
        if not self._cluster.is_running:
            return  # `start` will do it
        fault = handle.fault
        for site in self._sites(fault.where, fault.kind):
            self._cluster.faults.record(handle, site)
            self._do(handle, site, self._chosen(handle, site, None)).wait(_PATIENCE)

    def on_request(self, shot: Shot, request: Request, site: Site) -> bool:
        """A request has set a fault off at `site`. True if it ends that very node."""
        target = self._chosen(shot.handle, site, request)
        kind = shot.kind
        done = self._do(shot.handle, site, target)
        if kind in BY_FAULT:
            done.wait(_PATIENCE)  # it counts for this request already
        if kind in ("restart_target", "kill_target"):
            return site.type == "target" and target is not None and target.id == site.id
        return kind == "proxy_down" and site.type == "proxy"

    def undo(self, handle: Handle) -> None:
        """The fault is removed: what it has closed opens again."""
        over = self._over.pop(handle.id, None)
        if over is not None:
            over.set()
        with self._lock:
            deeds = self._undoing.pop(handle.id, [])
            for deed in deeds:
                deed()
            if handle.fault.kind in BY_FAULT:  # which holds also when the cluster has been stopped in between
                self._switch(BY_FAULT[handle.fault.kind], handle.id, None)

    # -- which nodes

    def _sites(self, where: str, kind: str) -> list[Site]:
        """Where an immediate fault happens. What is about targets or the proxy happens once."""
        cluster = self._cluster
        if kind in ("proxy_down", "cleanup_now", *BY_FAULT):
            return [cluster._sites()[0]]
        sites = [
            site for site in cluster._sites() if where in ("any", site.type, f"{site.type}:{site.number}", site.id)
        ]
        if kind in ("restart_target", "kill_target", "move_owner"):
            return [site for site in sites if site.type == "target"][:1]
        return sites

    def _chosen(self, handle: Handle, site: Site, request: Request | None) -> Target | None:
        """The target that a fault is about: the named one, the one asked, or the owner of the request's object."""
        named = handle.fault.parameters.get("target")
        if named is not None:
            return self._named(named)
        if site.type == "target":
            return self._target(site.id)
        if request is not None:
            operation = operation_of(request)
            if operation.name:
                bck = bck_of(operation.bucket, request.query)
                try:
                    return self._target(self._cluster._map.owner(bck.uname(operation.name)).id)
                except LookupError:
                    return None
        return None

    def _named(self, name: Value) -> Target | None:
        text = str(name).removeprefix("target").lstrip(":")
        sites = self._cluster._sites()[1:]
        return next((self._target(site.id) for site in sites if text in (str(site.number), site.id)), None)

    def _target(self, id_: str) -> Target | None:
        return next((target for target in self._cluster.targets if target.id == id_), None)

    # -- what happens to them

    def _do(self, handle: Handle, site: Site, target: Target | None) -> threading.Event:
        """Start the deed; the event is set when it is done, though it may have to be undone later."""
        done = threading.Event()

        def run() -> None:
            try:
                self._carry_out(handle, site, target, done)
            finally:
                done.set()

        thread = threading.Thread(target=run, name="mock-fault", daemon=True)
        with self._starting:
            if self._stopping.is_set():
                done.set()
                return done
            thread.start()
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        return done

    def _carry_out(self, handle: Handle, site: Site, target: Target | None, done: threading.Event) -> None:
        kind, parameters = handle.fault.kind, handle.fault.parameters
        cluster = self._cluster
        if kind == "cleanup_now":
            for one in cluster.targets:
                one._node.uploads.clean_up()
        elif kind in BY_FAULT:
            switch = partial(self._switch, BY_FAULT[kind], handle.id)
            self._for_a_while(handle, done, partial(switch, bool(parameters["on"])), partial(switch, None))
        elif kind in ("refuse", "syn_drop"):
            server = cluster._server_at(site)
            if server is not None:
                shut = partial(server.shut_door, drop=kind == "syn_drop")
                self._for_a_while(handle, done, shut, server.open_door)
        elif kind == "proxy_down":
            server = cluster._server_at(cluster._sites()[0])
            if server is not None:
                self._for_a_while(handle, done, server.stop, lambda: self._start(server))
        elif target is None:
            return
        elif kind == "restart_target":
            with self._lock:
                if not self._stopping.is_set():
                    target.restart(keep_uploads=bool(parameters["keep_state"]))
        elif kind == "kill_target":
            self._for_a_while(handle, done, target._server.stop, target.restart)
        elif kind == "move_owner" and len([node for node in cluster._map.targets if node.active]) > 1:
            self._for_a_while(
                handle, done, lambda: cluster._flag(target.id, MAINTENANCE), lambda: self._come_back(target)
            )

    def _for_a_while(
        self, handle: Handle, done: threading.Event, deed: Callable[[], None], back: Callable[[], None]
    ) -> None:
        """Do something, and undo it after the fault's time, or when the fault is removed."""
        milliseconds = handle.fault.parameters["ms"]
        with self._lock:
            if self._stopping.is_set() or handle.removed:
                return
            deed()
            self._undoing.setdefault(handle.id, []).append(back)
            over = self._over.setdefault(handle.id, threading.Event())
        done.set()
        if milliseconds is None:
            return
        over.wait(float(milliseconds) / 1000)
        with self._lock:
            undoing = self._undoing.get(handle.id, [])
            if back in undoing and not self._stopping.is_set():
                undoing.remove(back)
                back()

    def _switch(self, quirk: str, id_: int, on: bool | None) -> None:
        """Let a fault say whether the server has a quirk; None: it says no more. The latest that speaks is believed."""
        said = self._said.setdefault(quirk, [(0, getattr(self._cluster._quirks, quirk))])  # first of all the cluster
        said[:] = [item for item in said if item[0] != id_] + ([] if on is None else [(id_, on)])
        setattr(self._cluster._quirks, quirk, said[-1][1])

    @staticmethod
    def _start(server: Server) -> None:
        if not server.is_running:
            server.start()

    def _come_back(self, target: Target) -> None:
        if target in self._cluster.targets:
            target.activate()
