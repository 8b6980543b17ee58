"""What faults do to one request: each kind of the menu is a small class here or in `fault_answers`.

A request meets its faults at five moments, in the order in which the faults were added: before the handler (`before`),
while the body is read (`stop`, `pace`, `rewrite`), after the handler (`revise`), while the answer is made up (`dress`)
and when it should go out (`withhold`). The handler itself knows nothing of this: an attempt that a fault holds up stays
alive, as AIStore's handlers do, and ends as it would.

Threads: all of it runs on the connection's thread. Waits end when the node stops or the fault is removed.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from fastmpu.mock.answers import Answer, Dropped, Refusal
from fastmpu.mock.cluster_map import Node
from fastmpu.mock.fault_body import FaultyBody
from fastmpu.mock.fault_menu import MENU
from fastmpu.mock.faults import Fault, Shot, Site
from fastmpu.mock.heads import Request
from fastmpu.mock.links import Throttle
from fastmpu.mock.operations import Operation
from fastmpu.mock.replies import Reply
from fastmpu.mock.wire import Wire

__all__ = ["REQUEST_EFFECTS", "Effect", "Scene", "end_by_fin", "end_by_reset", "narrow", "rate_of"]

_BUFFER = 0.2  # seconds of a slow reader's rate that wait in the kernel's receive buffer
_BUFFER_LIMITS = (4 << 10, 4 << 20)  # bytes; the kernel doubles what it is told


@dataclass
class Scene:
    """Where a fault happens. `mute`: the client's side is over, whatever the handler will say."""

    wire: Wire
    request: Request
    body: FaultyBody
    operation: Operation
    site: Site
    node: str
    wait: Callable[[Shot, float | None], None]  # seconds; None: until the node stops or the fault is removed
    nodes: Callable[[], tuple[Node, list[Node]]]  # the proxy, the targets
    do: Callable[[Shot, Request, Site], bool]  # what happens to nodes; True if to the one that asks
    mute: bool = False
    ending: str = ""  # "close" or "rst": how the connection ends after the answer


class Effect:
    """One fault in one request."""

    def __init__(self, shot: Shot, scene: Scene) -> None:
        self.shot = shot
        self.scene = scene

    def stop(self) -> None:
        """The body has come as far as the parameter `byte`."""

    def pace(self, size: int) -> int:
        """Wait until so many bytes of the body have passed. The number that may come next."""
        return size

    def rewrite(self, piece: bytes) -> bytes:
        """What becomes of the next bytes of the body; b"" comes at its end."""
        return piece

    def has(self, moment: str) -> bool:
        """Whether this kind of fault does anything at that moment."""
        return getattr(type(self), moment) is not getattr(Effect, moment)

    def before(self) -> Answer | None:
        """An answer ends it here; so does a Refusal."""
        return None

    def revise(self, answer: Answer) -> Answer:
        return answer

    def dress(self, reply: Reply) -> None: ...

    def withhold(self) -> bool:
        """Whether the answer does not go out at all."""
        return False

    def wait(self) -> None:
        self.scene.wait(self.shot, self.shot.seconds())


def end_by_reset(wire: Wire) -> None:
    """Close so that the kernel sends RST."""
    with contextlib.suppress(OSError):
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


def end_by_fin(wire: Wire) -> None:
    with contextlib.suppress(OSError):
        wire.end_output()


def narrow(sock: socket.socket, rate: float = 0.0) -> None:
    """Leave the sender little room: what the kernel takes by itself makes slow readers look fast."""
    size = min(max(int(min(rate, 1e12) * _BUFFER), _BUFFER_LIMITS[0]), _BUFFER_LIMITS[1])
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def rate_of(fault: Fault) -> float | None:
    """Bytes a second that a slow fault lets pass, 0 for none; None for other faults."""
    if fault.kind == "window_zero":
        return 0.0
    rate = fault.parameters.get("bps", fault.parameters.get("bytes_per_s"))
    return None if rate is None else float(rate)


# -- request side


class ResetAt(Effect):
    def stop(self) -> None:
        end_by_reset(self.scene.wire)
        self.scene.mute = True
        raise self.scene.body.fail("read: connection reset by peer")


class FinAt(Effect):
    def stop(self) -> None:
        end_by_fin(self.scene.wire)
        self.scene.mute = True
        raise self.scene.body.fail("unexpected EOF")

    def withhold(self) -> bool:
        if self.scene.mute:
            self.scene.wire.wait_for_peer_to_close()  # a close at once would be a reset
        return self.scene.mute


class StallAt(Effect):
    def stop(self) -> None:
        self.wait()


class WindowZero(Effect):
    def stop(self) -> None:
        narrow(self.scene.wire.socket)
        self.wait()
        narrow(self.scene.wire.socket, math.inf)


class Trickle(Effect):
    def __init__(self, shot: Shot, scene: Scene) -> None:
        super().__init__(shot, scene)
        self._rate = rate_of(shot.handle.fault) or 1.0
        self._throttle = Throttle(self._rate)
        self._step = max(1, min(64 << 10, int(self._rate / 20)))

    def before(self) -> Answer | None:
        narrow(self.scene.wire.socket, self._rate)
        return None

    def pace(self, size: int) -> int:
        if size:
            self.scene.wait(self.shot, self._throttle.take(size))
        return self._step


class Bandwidth(Trickle):
    """The same in both directions."""

    def dress(self, reply: Reply) -> None:
        def pace(left: int) -> int:
            size = min(left, self._step)
            self.pace(size)
            return size

        reply.pace = pace


class Latency(Effect):
    def before(self) -> Answer | None:
        jitter = self.shot.seconds("jitter") or 0.0
        seconds = self.shot.seconds()
        self.scene.wait(self.shot, None if seconds is None else seconds + self.shot.generator.uniform(0.0, jitter))
        return None


class EarlyStatus(Effect):
    def stop(self) -> None:
        self.scene.ending = str(self.shot.value("how"))
        raise Refusal(
            self.shot.number("code"), f"early answer after {self.scene.body.received} bytes", _tcode(self.shot)
        )


class FlipBit(Effect):
    _at = 0

    def rewrite(self, piece: bytes) -> bytes:
        place = _byte_of(self) - self._at
        self._at += len(piece)
        if 0 <= place < len(piece):
            changed = bytearray(piece)
            changed[place] ^= 1 << self.shot.number("bit") % 8
            return bytes(changed)
        return piece


class DropByte(Effect):
    _at = 0

    def rewrite(self, piece: bytes) -> bytes:
        place = _byte_of(self) - self._at
        self._at += len(piece)
        return piece[:place] + piece[place + 1 :] if 0 <= place < len(piece) else piece


class DupChunk(Effect):
    _at = 0
    _copy: bytes | None = b""

    def rewrite(self, piece: bytes) -> bytes:
        begin, end = _byte_of(self) - self._at, _byte_of(self) + self.shot.number("size") - self._at
        self._at += len(piece)
        if self._copy is None:
            return piece
        self._copy += piece[max(0, begin) : max(0, end)]
        if end > len(piece) and piece:
            return piece
        end, copy, self._copy = min(max(end, 0), len(piece)), self._copy, None
        return piece[:end] + copy + piece[end:]


# -- middleboxes


class HalfDead(Effect):
    """The handler goes on when the time is over: with what came, and then the end, or with all of the body."""

    def stop(self) -> None:
        body, wire = self.scene.body, self.scene.wire
        self.scene.mute = True
        if self.shot.value("who") == "target":
            raise body.fail("unexpected EOF")
        if self.shot.value("how") == "rst":
            end_by_reset(wire)
        else:
            end_by_fin(wire)
        self.wait()
        if body.unread:
            raise body.fail("unexpected EOF")

    def withhold(self) -> bool:
        if self.scene.mute and self.shot.value("who") == "target":
            self.wait()  # the client's half lives on, and says nothing
        return self.scene.mute


class Gateway(Effect):
    """Whatever stands in front has answered; the handler goes on as under `half_dead`."""

    status: ClassVar[str]

    def stop(self) -> None:
        body, wire = self.scene.body, self.scene.wire
        self.scene.mute = True
        page = f"<html>\r\n<head><title>{self.status}</title></head>\r\n<body>\r\n<h1>{self.status}</h1>\r\n</body>\r\n"
        page += "</html>\r\n"
        head = f"HTTP/1.1 {self.status}\r\nServer: nginx\r\nContent-Type: text/html\r\n"
        with contextlib.suppress(OSError):
            wire.send(f"{head}Content-Length: {len(page)}\r\nConnection: close\r\n\r\n{page}".encode())
        end_by_fin(wire)
        self.wait()
        if body.unread:
            raise body.fail("unexpected EOF")


class Gateway502(Gateway):
    status = "502 Bad Gateway"


class Gateway504(Gateway):
    status = "504 Gateway Time-out"


# -- nodes


class NodeEffect(Effect):
    """The request is only the moment at which something happens to a node."""

    def before(self) -> Answer | None:
        if self._now("before"):
            self._happen()
        return None

    def revise(self, answer: Answer) -> Answer:
        if self._now("after"):
            self._happen()
        return answer

    def _now(self, moment: str) -> bool:
        return (self.shot.value("when") if "when" in self.shot.handle.fault.parameters else "before") == moment

    def _happen(self) -> None:
        if self.scene.do(self.shot, self.scene.request, self.scene.site):
            self.scene.wait(self.shot, None)  # until this node is gone
            raise Dropped


def _byte_of(effect: Effect) -> int:
    """The place that a rewrite is about. The end means the last byte."""
    byte, length = effect.shot.value("byte"), effect.scene.body.length
    place = -1 if byte is None else int(str(byte))
    return place if place >= 0 else max(0, length + place)


def _tcode(shot: Shot) -> str:
    return str(shot.value("tcode") or "")


REQUEST_EFFECTS: dict[str, type[Effect]] = {
    "reset_at": ResetAt,
    "fin_at": FinAt,
    "stall_at": StallAt,
    "trickle": Trickle,
    "window_zero": WindowZero,
    "bandwidth": Bandwidth,
    "latency": Latency,
    "early_status": EarlyStatus,
    "flip_bit": FlipBit,
    "drop_byte": DropByte,
    "dup_chunk": DupChunk,
    "half_dead": HalfDead,
    "gateway_502": Gateway502,
    "gateway_504": Gateway504,
    **dict.fromkeys((kind.name for kind in MENU.values() if kind.about == "node"), NodeEffect),
}
