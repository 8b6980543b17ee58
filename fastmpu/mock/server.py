"""One node on the network: its listener, its connections and their threads.

Threads: `accept` owns the listening socket. Each connection has a thread of its own, which owns the `Wire` and runs the
node's handler. The thread that calls `stop` wakes them all by shutting their sockets down, and waits for them. Shared:
the set of live connections and the CPU clock, each under its own lock.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastmpu.mock.answers import Answer, Dropped, Refusal, refusal_answer
from fastmpu.mock.body import Body
from fastmpu.mock.heads import BadHead, Request, parse_request, response_head
from fastmpu.mock.wire import Timings, Wire

__all__ = ["CpuClock", "Exchange", "Handler", "Server"]

_BACKLOG = 1024
_STOP_SECONDS = 1.0  # a thread that is not back by then is inside a handler; it ends with that


@dataclass(frozen=True)
class Exchange:
    """One request while it is answered."""

    request: Request
    body: Body
    peer: str


Handler = Callable[[Exchange], Answer]


class CpuClock:
    """CPU seconds spent by many threads, those that have ended included."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = 0.0
        self._running: dict[int, float] = {}

    def tick(self) -> None:
        """Book the calling thread's time so far."""
        self._running[threading.get_ident()] = time.thread_time()

    def end(self) -> None:
        """Book the calling thread's time for good: its identity will be given to another."""
        with self._lock:
            self._running.pop(threading.get_ident(), None)
            self._ended += time.thread_time()

    @property
    def seconds(self) -> float:
        with self._lock:
            return self._ended + sum(list(self._running.values()))


class Server:
    """Listens on a port, of the system's choice for 0, from `start` to `stop`. May be started again on its port."""

    def __init__(self, handler: Handler, *, node: str, host: str, port: int, timings: Timings, clock: CpuClock) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._node = node  # as errors tell it, "p[id]" or "t[id]"
        self._timings = timings
        self._clock = clock
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[Wire, threading.Thread] = {}

    def bind(self) -> None:
        """Take the port and queue connections; `start` answers them."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        self._listener.settimeout(None)
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        if self._listener is None:
            self.bind()
        self._stopping.clear()
        self._accepting = threading.Thread(target=self._accept, name=f"mock-{self._node}", daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close the listener and all connections, and wait for their threads."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        if self._accepting is not None:
            self._accepting.join()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        with self._lock:
            live = dict(self._live)
        for wire in live:
            wire.shut()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in live.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                if self._stopping.is_set():
                    break
                time.sleep(0.01)  # out of descriptors, or the peer was gone before it was accepted
                continue
            if self._stopping.is_set():
                sock.close()
                break
            try:
                wire = Wire(sock, self._timings)
            except OSError:  # reset meanwhile
                sock.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(wire,), name=f"mock-{self._node}-{wire.peer}", daemon=True
            )
            with self._lock:
                self._live[wire] = thread
            thread.start()
        self._clock.end()

    def _serve(self, wire: Wire) -> None:
        try:
            first = True
            while self._serve_one(wire, first=first):
                first = False
                self._clock.tick()
        except OSError:
            pass  # the peer is gone; whoever wanted to know has been told by its body
        finally:
            with self._lock:
                self._live.pop(wire, None)
            wire.close()
            self._clock.end()

    def _serve_one(self, wire: Wire, *, first: bool) -> bool:
        """Answer one request. False if the connection has to close."""
        try:
            head = wire.receive_head(first=first)
            if head is None:
                return False
            request = parse_request(head)
        except BadHead as error:
            wire.send(error.answer)
            wire.end_output()
            wire.wait_for_peer_to_close()
            return False
        exchange = Exchange(request, Body(wire, request), wire.peer)
        try:
            answer = self._answer(exchange)
        except Dropped:
            return False
        close = exchange.body.settle(closing=request.wants_close or answer.close)
        whole = _send(wire, request, answer, close=close)
        if close and whole:
            exchange.body.close()
        return whole and not close

    def _answer(self, exchange: Exchange) -> Answer:
        request = exchange.request
        if request.header("expect") and request.header("expect").lower() != "100-continue":
            return Answer(417, close=True)
        try:
            return self._handler(exchange)
        except Refusal as refusal:
            return refusal_answer(
                refusal, method=request.method, path=request.path, peer=exchange.peer, node=self._node
            )


def _send(wire: Wire, request: Request, answer: Answer, *, close: bool) -> bool:
    """Send an answer; False if its body breaks off, which only the end of the connection can tell the client."""
    headers = list(answer.headers)
    if request.method != "HEAD" and answer.status not in (204, 304):
        headers.append(("Content-Length", str(answer.content.size if answer.content else len(answer.body))))
    if close:
        headers.append(("Connection", "close"))
    elif request.http_1_0:
        headers.append(("Connection", "keep-alive"))
    head = response_head(answer.status, headers, http_1_0=request.http_1_0)
    if request.method == "HEAD":
        wire.send(head)
        return True
    wire.send(head + answer.body)
    return answer.content.send(wire) if answer.content else True
