"""Where plain connections wait for their next request, and where small requests are answered.

A thread for each of many connections that carry small requests spends most of its time on handing the interpreter on.
So one thread waits for all of them, and answers by itself what is *light*: a request that is there to its last byte and
whose answer is short. Whatever else comes sends the connection to a thread of its own (`Server.hand_over`), with the
bytes that were read: large bodies, objects to be read, lists, odd heads, anything while faults are in force. There it
stays, among its like, until a light request comes: after that one's answer it is back here.

| a connection here that                   | is                                                              |
|------------------------------------------|-----------------------------------------------------------------|
| is silent for the header or idle timeout | closed (protocol 1.4)                                           |
| has sent a piece of a request            | given `_GRACE` seconds for the rest, and then a thread          |
| has not read its earlier answers         | given a thread for the next, as that may have to wait           |

Threads: "mock-front", one for the cluster, owns the selector and the connections in it, and never waits for a client.
Any thread may bring a connection by `take`, through a queue with a bell. `Server.stop` shuts connections down, which
this thread then sees as their end.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmpu.mock.cpu_clock import CpuClock
from fastmpu.mock.heads import BadHead, Request, parse_request
from fastmpu.mock.wire import Wire

if TYPE_CHECKING:
    from fastmpu.mock.server import Server

__all__ = ["Front", "is_light"]

_LIGHT_BODY = 128 << 10  # bytes; of a larger body a thread receives most where it will lie
_READ = _LIGHT_BODY + (8 << 10)  # a light request at once
_LIGHT_ANSWER = 16 << 10  # bytes that surely fit where the kernel has room at all
_GRACE = 0.01  # seconds; what is sent at once is there by then
_LONG = 3600.0  # seconds, where nothing has a deadline
_LIGHT_METHODS = ("PUT", "HEAD", "DELETE")


@dataclass(eq=False)
class _Guest:
    """A connection that is here. `request` and its `size`, the head's included, are known once the head is there."""

    server: Server
    wire: Wire
    number: int
    first: bool  # no request has been answered
    deadline: float = 0.0
    request: Request | None = None
    size: int = 0


class Front:
    """Takes connections from `start` to `stop`."""

    def __init__(self, clock: CpuClock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._scratch = bytearray(_READ)
        self._arrivals: deque[_Guest] = deque()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._next_look = float("inf")  # no deadline is earlier
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mock-front", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the connections that are left, and wait for the thread."""
        self._stopping = True
        self._ring()
        self._thread.join()
        self._dismiss_arrivals()
        self._bell.close()

    def take(self, server: Server, wire: Wire, number: int, *, first: bool) -> None:
        """Wait for the connection's next request from now on."""
        now = time.monotonic()
        timings = wire.timings
        guest = _Guest(server, wire, number, first, now + (timings.header if first else timings.idle))
        if first:
            wire.first_head_since = now
        self._arrivals.append(guest)
        if self._stopping:
            self._dismiss_arrivals()
        else:
            self._ring()

    def _ring(self) -> None:
        try:
            self._bell.send(b"!")
        except OSError:
            pass  # full: it is ringing; closed: nobody listens, and `stop` takes care

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select(min(self._next_look - time.monotonic(), _LONG)):
                    if key.data is None:
                        self._let_in()
                    else:
                        self._attend(key.data, self._hear)
                self._clock.tick()
                if time.monotonic() >= self._next_look:
                    self._look_at_deadlines()
        finally:
            for guest in self._guests():
                self._dismiss(guest)
            self._selector.close()
            self._ear.close()
            self._clock.end()

    def _let_in(self) -> None:
        self._ear.recv(_READ)
        while self._arrivals:
            guest = self._arrivals.popleft()
            self._selector.register(guest.wire.socket, selectors.EVENT_READ, guest)
            self._next_look = min(self._next_look, guest.deadline)

    def _attend(self, guest: _Guest, how: Callable[[_Guest], None]) -> None:
        try:
            how(guest)
        except OSError:
            self._dismiss(guest)  # the peer is gone
        except Exception:  # noqa: BLE001 - it ends this connection, as it would end a thread's, and not the others
            self._dismiss(guest)
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))

    def _hear(self, guest: _Guest) -> None:
        """Something has come, or the end."""
        wire = guest.wire
        try:
            received = wire.receive_at_once(self._scratch)
        except BlockingIOError:
            return
        if not received and not wire.ahead:
            self._dismiss(guest)
            return
        if not received or guest.server.watch.faults:
            self._hand_over(guest)
            return
        if guest.request is None and (head := wire.peek_head()) is not None:
            guest.request = _light_request(head)
            if guest.request is None:
                self._hand_over(guest)
                return
            guest.size = len(head) + guest.request.length
        if guest.request is None or wire.ahead < guest.size:
            if wire.ahead == received:  # its first piece
                self._set_deadline(guest, _GRACE)
        elif wire.ahead > guest.size:
            self._hand_over(guest)
        else:
            self._answer(guest, guest.request)

    def _answer(self, guest: _Guest, request: Request) -> None:
        server, wire = guest.server, guest.wire
        wire.skip_head(guest.size - request.length)
        guest.request, guest.first = None, False
        outcome = server.handle(wire, guest.number, request, faulty=False)
        if outcome is None:
            self._dismiss(guest)
        elif outcome.close or outcome.answer.content or len(outcome.answer.body) > _LIGHT_ANSWER or not wire.has_room():
            self._leave(guest)
            server.hand_over(wire, guest.number, first=False, outcome=outcome)
        else:
            server.deliver(wire, outcome)
            self._set_deadline(guest, wire.timings.idle)

    def _set_deadline(self, guest: _Guest, seconds: float) -> None:
        guest.deadline = time.monotonic() + seconds
        self._next_look = min(self._next_look, guest.deadline)

    def _look_at_deadlines(self) -> None:
        now = time.monotonic()
        for guest in self._guests():
            if guest.deadline <= now:
                self._attend(guest, self._hand_over if guest.wire.ahead else self._dismiss)
        self._next_look = min((guest.deadline for guest in self._guests()), default=float("inf"))

    def _guests(self) -> list[_Guest]:
        return [key.data for key in self._selector.get_map().values() if key.data is not None]

    def _hand_over(self, guest: _Guest) -> None:
        self._leave(guest)
        guest.server.hand_over(guest.wire, guest.number, first=guest.first)

    def _dismiss(self, guest: _Guest) -> None:
        self._leave(guest)
        guest.server.let_go(guest.wire)

    def _leave(self, guest: _Guest) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it has left already, and maybe was closed
            self._selector.unregister(guest.wire.socket)

    def _dismiss_arrivals(self) -> None:
        while self._arrivals:
            guest = self._arrivals.popleft()
            guest.server.let_go(guest.wire)


def is_light(request: Request) -> bool:
    """Whether its answer is short, and no other wait belongs to it than that for its bytes."""
    if not 0 <= request.length <= _LIGHT_BODY or request.header("expect") or request.http_1_0 or request.wants_close:
        return False
    if request.method == "GET":
        return request.path == "/v1/daemon"
    if request.method == "DELETE" and "uploadId" in request.query:
        return False  # an abort waits for a complete
    return request.method in _LIGHT_METHODS and request.path.startswith("/v1/objects/")


def _light_request(head: bytes) -> Request | None:
    try:
        request = parse_request(head)
    except BadHead:
        return None
    return request if is_light(request) else None
