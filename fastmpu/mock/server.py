"""One node on the network: its listener, its connections and their threads.

Threads: `accept` owns the listening socket. A connection, and with it the `Wire` and the running of the node's handler,
belongs to one thread at a time: the cluster's front (see `front`) while it waits for a request and while that is light,
else a thread of its own, which gives it back in time. Without a front, and while there are faults, it has its own from
beginning to end. The thread that calls `stop` wakes them all by shutting their sockets down, and waits until they have
let go. Shared: the table of live connections under a lock, which also guards who is its owner.
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
from fastmpu.mock.cpu_clock import CpuClock
from fastmpu.mock.fault_body import FaultyBody
from fastmpu.mock.faults import Shot
from fastmpu.mock.front import Front, is_light
from fastmpu.mock.heads import BadHead, Request, parse_request
from fastmpu.mock.mishaps import Mishaps, Watch, greet
from fastmpu.mock.operations import operation_of
from fastmpu.mock.replies import send_answer
from fastmpu.mock.truth import Record, Truth
from fastmpu.mock.wire import Timings, Wire

__all__ = ["Exchange", "Handler", "Outcome", "Server"]

_BACKLOG = 1024
_STOP_SECONDS = 1.0  # a thread that is not back by then is inside a handler; it ends with that


@dataclass(frozen=True)
class Exchange:
    """One request while it is answered."""

    request: Request
    body: Body
    peer: str
    record: Record  # what the truth log will say about it
    truth: Truth


Handler = Callable[[Exchange], Answer]


@dataclass(frozen=True)
class Outcome:
    """A request that has been handled, and its answer, which has to go out."""

    exchange: Exchange
    answer: Answer
    mishaps: Mishaps | None
    close: bool  # the connection ends after it


class Server:
    """Listens on a port, of the system's choice for 0, from `start` to `stop`. May be started again on its port."""

    def __init__(
        self,
        handler: Handler,
        *,
        node: str,
        host: str,
        port: int,
        timings: Timings,
        clock: CpuClock,
        make_wire: Callable[[socket.socket, Timings], Wire] = Wire,
        front: Front | None = None,
    ) -> None:
        """`front` is for connections whose bytes are those on the socket, as they come."""
        self.host, self.port = host, port
        self._handler = handler
        self._node = node  # as errors tell it, "p[id]" or "t[id]"
        self._timings = timings
        self._make_wire = make_wire
        self._clock = clock
        self._front = front
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[Wire, threading.Thread | None] = {}  # None: at the front
        self._left = threading.Condition(self._lock)  # one of them has gone
        self._connections = 0
        self._held: socket.socket | None = None  # the port while its door is shut
        self._waits: set[threading.Event] = set()
        self.watch = Watch()

    @property
    def is_running(self) -> bool:
        return self._accepting is not None

    def bind(self) -> None:
        """Take the port and queue connections; `start` answers them."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        self._listener.settimeout(None)
        self.prepare()
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        if self._listener is None:
            self.bind()
        self._stopping.clear()
        self._accepting = threading.Thread(
            target=self._accept, args=(self._listener,), name=f"mock-{self._node}", daemon=True
        )
        self._accepting.start()

    def stop(self) -> None:
        """Close the listener and all connections, and wait for those who serve them."""
        self._stopping.set()
        self._close_listener()
        if self._held is not None:
            self._held.close()
            self._held = None
        for event in list(self._waits):
            event.set()
        with self._lock:
            live = dict(self._live)
        for wire in live:
            wire.shut()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in live.values():
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        with self._left:
            self._left.wait_for(lambda: not self._live, max(0.0, deadline - time.monotonic()))

    def prepare(self) -> None:
        """Faults have come or gone: new connections have the window that those want."""
        listener = self._listener
        if listener is not None:
            self.watch.narrow(listener)

    def shut_door(self, *, drop: bool) -> None:
        """Refuse new connections, or drop their SYNs, and keep the port. Connections that are open go on."""
        if self._listener is None:
            return
        family = self._listener.family
        self._close_listener()
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((self.host, self.port))
        self._held = held
        if drop:
            # A full queue is what makes the kernel drop SYNs: room for one, and that one is ours.
            held.listen(0)
            with contextlib.suppress(OSError):  # somebody else's connection fills it just as well
                socket.create_connection((self.host, self.port), 1.0).close()

    def open_door(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        held.listen(_BACKLOG)
        self._listener = held
        self.prepare()
        self.start()

    def wait(self, shot: Shot, seconds: float | None) -> None:
        """Wait for so long, for the node's end, or for the fault's."""
        event = threading.Event()
        self._waits.add(event)
        try:
            if not self._stopping.is_set():
                shot.handle.wait(event, seconds)
        finally:
            self._waits.discard(event)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        if self._accepting is not None:
            self._accepting.join()
            self._accepting = None
        if listener is not None:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                if listener is not self._listener:
                    break
                time.sleep(0.01)  # out of descriptors, or the peer was gone before it was accepted
                continue
            if listener is not self._listener:
                sock.close()
                break
            try:
                wire = self._make_wire(sock, self._timings)
            except OSError:  # reset meanwhile
                sock.close()
                continue
            self._connections += 1
            if self._front is None or self.watch.faults:
                self._start_thread(wire, self._connections, greeted=False)
            else:
                with self._lock:
                    self._live[wire] = None
                self._front.take(self, wire, self._connections, first=True)
        self._clock.end()

    def _start_thread(
        self, wire: Wire, connection: int, *, greeted: bool, first: bool = True, outcome: Outcome | None = None
    ) -> None:
        thread = threading.Thread(
            target=self._serve,
            args=(wire, connection, greeted, first, outcome),
            name=f"mock-{self._node}-{wire.peer}",
            daemon=True,
        )
        with self._lock:
            if not self._stopping.is_set():  # else `stop` has counted them already
                self._live[wire] = thread
                try:
                    thread.start()
                    return
                except RuntimeError:  # no more threads, or the interpreter ends: the client is not left waiting
                    pass
        self.let_go(wire)

    def _serve(self, wire: Wire, connection: int, greeted: bool, first: bool, outcome: Outcome | None) -> None:
        """A thread's work for one connection. `outcome` is what it owes its client before anything else."""
        goes_back = False
        try:
            if not greeted:
                if self.watch.faults:
                    greet(wire, self.watch, self.wait)
                wire.open()
            if outcome is None:
                outcome = self._next(wire, connection, first=first)
            while outcome is not None and self.deliver(wire, outcome):
                self._clock.tick()
                goes_back = self._is_for_front(wire, outcome.exchange.request)
                if goes_back:
                    break
                outcome = self._next(wire, connection, first=False)
        except OSError:
            pass  # the peer is gone; whoever wanted to know has been told by its body
        finally:
            if goes_back:
                self._give_back(wire, connection)
            else:
                self.let_go(wire)
            self._clock.end()

    def _is_for_front(self, wire: Wire, request: Request) -> bool:
        """Whether a connection is to wait at the front, after this request: such are followed by their like."""
        return self._front is not None and not self.watch.faults and not wire.ahead and is_light(request)

    def _give_back(self, wire: Wire, connection: int) -> None:
        assert self._front is not None
        with self._lock:
            self._live[wire] = None
        self._front.take(self, wire, connection, first=False)

    def _next(self, wire: Wire, connection: int, *, first: bool) -> Outcome | None:
        """Wait for a request and handle it. None if the connection has to close."""
        try:
            head = wire.receive_head(first=first)
            if head is None:
                return None
            request = parse_request(head)
        except BadHead as error:
            wire.send(error.answer)
            wire.end_output()
            wire.wait_for_peer_to_close()
            return None
        return self.handle(wire, connection, request, faulty=bool(self.watch.faults))

    # -- what the front, too, does with its connections

    def handle(self, wire: Wire, connection: int, request: Request, *, faulty: bool) -> Outcome | None:
        """Do what a request asks for. None if the connection has to close without an answer.

        `faulty`: faults may meet it, and keep the calling thread waiting.
        """
        exchange, mishaps = self._meet(wire, connection, request, faulty=faulty)
        record = exchange.record
        try:
            answer = self._answer(exchange, mishaps)
            self._end(exchange, answer)
            if mishaps is not None:
                answer = mishaps.revise(answer)
                record.status = answer.status
            record.answer = "lost"  # until it is out
            close = exchange.body.settle(closing=request.wants_close or answer.close)
            record.received = exchange.body.received
            return Outcome(exchange, answer, mishaps, close)
        except Dropped:
            record.answer = "lost"
            return None
        finally:
            if record.alive:
                self._end(exchange, None)

    def deliver(self, wire: Wire, outcome: Outcome) -> bool:
        """Let an answer out. False if the connection has to close."""
        exchange, answer, mishaps, close = outcome.exchange, outcome.answer, outcome.mishaps, outcome.close
        if mishaps is not None:
            return mishaps.deliver(answer, exchange.record, close=close)
        whole = send_answer(wire, exchange.request, answer, close=close)
        exchange.record.answer = "sent" if whole else "cut"
        if close and whole:
            exchange.body.close()
        return whole and not close

    def hand_over(self, wire: Wire, connection: int, *, first: bool, outcome: Outcome | None = None) -> None:
        """Give a connection a thread: for its next request, or to deliver an answer that may have to wait."""
        self._start_thread(wire, connection, greeted=True, first=first, outcome=outcome)

    def let_go(self, wire: Wire) -> None:
        """A connection is over."""
        wire.close()
        with self._left:
            self._live.pop(wire, None)
            self._left.notify_all()

    # -- one exchange

    def _meet(self, wire: Wire, connection: int, request: Request, *, faulty: bool) -> tuple[Exchange, Mishaps | None]:
        """A request has come: note it, and see which faults it meets."""
        watch, operation = self.watch, operation_of(request)
        body = FaultyBody(wire, request) if faulty else Body(wire, request)
        record = watch.truth.begin(self._node, watch.site.type, connection, operation, request.length)
        exchange = Exchange(request, body, wire.peer, record, watch.truth)
        if not isinstance(body, FaultyBody):
            return exchange, None
        return exchange, Mishaps.meet(watch, wire, request, body, operation, record, self.wait)

    def _end(self, exchange: Exchange, answer: Answer | None) -> None:
        """The handler is over: with an answer, or because the connection or the node is."""
        record, body = exchange.record, exchange.body
        outcome = record.outcome
        if outcome == "alive":
            if self._stopping.is_set() or answer is None:
                outcome = "died"
            elif body.broken:
                outcome = "broken"
            elif answer.status >= 400:
                outcome = "refused"
            else:
                outcome = "redirected" if answer.status >= 300 and record.where == "proxy" else "done"
        self.watch.truth.end(record, outcome, status=answer.status if answer else None, received=body.received)

    def _answer(self, exchange: Exchange, mishaps: Mishaps | None) -> Answer:
        request = exchange.request
        if request.header("expect") and request.header("expect").lower() != "100-continue":
            return Answer(417, close=True)
        try:
            answer = mishaps.before() if mishaps is not None else None
            return answer or self._handler(exchange)
        except Refusal as refusal:
            return refusal_answer(
                refusal, method=request.method, path=request.path, peer=exchange.peer, node=self._node
            )
