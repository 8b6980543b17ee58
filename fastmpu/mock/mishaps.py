"""Where faults meet requests: one `Mishaps` leads a request through the faults that hit it.

Threads: a `Mishaps` belongs to the thread that serves its request. A `Watch` is what a node's threads share: the faults
in force, the truth log, and what faults may do to nodes.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmpu.mock.answers import Answer
from fastmpu.mock.cluster_map import Node
from fastmpu.mock.fault_answers import EFFECTS
from fastmpu.mock.fault_body import FaultyBody, Stop
from fastmpu.mock.fault_effects import Effect, Scene, end_by_reset, narrow, rate_of
from fastmpu.mock.faults import Faults, Shot, Site
from fastmpu.mock.heads import Request
from fastmpu.mock.operations import Operation
from fastmpu.mock.replies import Reply
from fastmpu.mock.tls import TlsWire
from fastmpu.mock.truth import Record, Truth
from fastmpu.mock.wire import Wire

__all__ = ["Mishaps", "Watch", "greet"]

_HELLO_LIMIT = 1 << 16

Wait = Callable[[Shot, float | None], None]


@dataclass
class Watch:
    """What a node's connections share about faults and truth. The default one is a node alone, without faults."""

    site: Site = field(default_factory=lambda: Site("target", 0, ""))
    faults: Faults = field(default_factory=Faults)
    truth: Truth = field(default_factory=Truth)
    do: Callable[[Shot, Request, Site], bool] = lambda shot, request, site: False
    nodes: Callable[[], tuple[Node, list[Node]]] = lambda: (Node("", "proxy", "", 0), [])

    narrowed: bool = False

    def narrow(self, listener: socket.socket) -> None:
        """While something is to be slow, the kernel must not take much ahead; a connection's first window says so."""
        rates = [rate_of(handle.fault) for handle in self.faults if handle.fault.is_at(self.site)]
        slow = [rate for rate in rates if rate is not None]
        if slow or self.narrowed:
            narrow(listener, min(slow, default=math.inf))
        self.narrowed = self.narrowed or bool(slow)


def greet(wire: Wire, watch: Watch, wait: Wait) -> None:
    """What happens to a connection before anything is read. ConnectionError if that is its end."""
    for shot in watch.faults.at_connection(watch.site):
        if shot.kind == "reset_on_accept":
            end_by_reset(wire)
            raise ConnectionAbortedError("reset_on_accept")
        if shot.kind == "accept_no_read":
            wait(shot, shot.seconds())
        if shot.kind == "tls_bad_cert" and isinstance(wire, TlsWire):
            wire.show_bad(str(shot.value("kind")))
        if shot.kind == "tls_close_mid_handshake":
            socket.socket.recv(wire.socket, _HELLO_LIMIT)
            wire.socket.close()
            raise ConnectionAbortedError("tls_close_mid_handshake")


class Mishaps:
    """The faults that hit one request, and what they make of it."""

    def __init__(self, effects: list[Effect], scene: Scene) -> None:
        self._effects = effects
        self._scene = scene

    @classmethod
    def meet(
        cls,
        watch: Watch,
        wire: Wire,
        request: Request,
        body: FaultyBody,
        operation: Operation,
        record: Record,
        wait: Wait,
    ) -> Mishaps | None:
        """See which faults a request meets, and write that in its record; None if there are none."""
        if operation.op == "complete" and watch.faults.tells_probes() and _is_probe(body.peek()):
            operation = operation._replace(op="probe")
            record.op = "probe" if record.op == "complete" else record.op
        scene = Scene(wire, request, body, operation, watch.site, record.node, wait, watch.nodes, watch.do)
        effects = [EFFECTS[shot.kind](shot, scene) for shot in watch.faults.at_request(watch.site, operation)]
        body.set_up(
            [Stop(_place(effect), effect.stop) for effect in effects if effect.has("stop")],
            [effect.pace for effect in effects if effect.has("pace")],
            [effect.rewrite for effect in effects if effect.has("rewrite")],
        )
        record.faults = tuple(effect.shot.kind for effect in effects)
        return cls(effects, scene) if effects else None

    def before(self) -> Answer | None:
        """Before the handler: an answer in its place, or None. Refusal, Dropped."""
        for effect in self._effects:
            answer = effect.before()
            if answer is not None:
                return answer
        self._scene.body.stop_without_body()
        return None

    def revise(self, answer: Answer) -> Answer:
        """After the handler. Dropped if the node ends."""
        for effect in self._effects:
            answer = effect.revise(answer)
        if self._scene.ending:
            answer.close = True
        return answer

    def deliver(self, answer: Answer, record: Record, *, close: bool) -> bool:
        """Let the answer out, or not. False if the connection has to end."""
        scene = self._scene
        if any(effect.withhold() for effect in self._effects) or scene.mute:
            return False
        reply = Reply.of(scene.request, answer, close=close)
        for effect in self._effects:
            effect.dress(reply)
        whole = reply.send(scene.wire)
        record.answer = "sent" if whole else "cut"
        if scene.ending == "rst":
            end_by_reset(scene.wire)
        elif whole and (close or scene.ending):
            scene.body.close()
            if not scene.body.unread:
                scene.wire.end_output()
        return whole and not close and not scene.ending


def _place(effect: Effect) -> int | None:
    byte = effect.shot.value("byte")
    return None if byte is None else int(str(byte))


def _is_probe(message: bytes) -> bool:
    """A complete with an empty list of parts."""
    try:
        return bool(json.loads(message)["value"] == [])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
