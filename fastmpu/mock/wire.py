"""One accepted connection as the mock sees it: heads up to their empty line, raw bytes, and the ways to end it.

`Wire` is the plain one, `tls.TlsWire` its sibling under TLS; they differ in the four methods that touch bytes, and in
how they end. Either may run through a `Lane`, which makes it as slow as a long or narrow line (see `links`).

Threads: a `Wire` belongs to one thread at a time: the front's while its connection waits for a request, or the one that
serves it (see `front`). `shut` alone may be called from another; it wakes the owner out of whatever it waits for.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from dataclasses import dataclass

from fastmpu.mock.heads import BadHead
from fastmpu.mock.links import Lane

__all__ = ["Timings", "Wire"]

_HEAD_LIMIT = (1 << 20) + 4096  # what Go's HTTP library takes
_HEAD_END = re.compile(rb"\n\r?\n")
_FIRST_READ = 1 << 13  # of a head; a large body that follows it is received where it will lie
_SEND_WINDOW = 1 << 20  # the interpreter is free for others between windows
_PEER_GONE = getattr(select, "POLLRDHUP", select.POLLHUP)  # Linux tells that the peer has closed before we read


@dataclass(frozen=True)
class Timings:
    """How long a node waits, in seconds (protocol 1.4)."""

    header: float = 16.0  # for a whole head, also on a fresh connection
    idle: float = 30.0  # between requests
    closing: float = 0.5  # after the last answer, for a peer that is still sending


class Wire:
    """The socket of one connection and the bytes that came ahead of their turn."""

    def __init__(self, sock: socket.socket, timings: Timings, lane: Lane | None = None) -> None:
        sock.settimeout(None)  # whatever the process has set as its default
        if lane is not None and lane.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, lane.receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.timings = timings
        host, port = sock.getpeername()[:2]
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._lane = lane
        self.first_head_since: float | None = None  # set where another thread has waited before `receive_head` does
        self._ahead = bytearray()
        self._patience: float | None = None

    def open(self) -> None:
        """What comes before the first request, on the connection's own thread. OSError if that fails."""
        if self._lane is not None:
            self._lane.travel()

    def receive_head(self, *, first: bool) -> bytes | None:
        """The next head; None if the peer ended, reset or was silent for too long."""
        begun = self.first_head_since if first else None
        patience = self.timings.header if first else self.timings.idle
        searched = 0
        while True:
            found = _HEAD_END.search(self._ahead, max(0, searched - 2))
            if len(self._ahead) > _HEAD_LIMIT and (found is None or found.end() > _HEAD_LIMIT):
                raise BadHead(431)
            if found:
                head = bytes(self._ahead[: found.end()])
                del self._ahead[: found.end()]
                return head
            searched = len(self._ahead)
            if searched and not first:  # the wait for a request is over, the one for its end has begun
                begun, patience, first = None, self.timings.header, True
            if begun is None:  # exactly what the kernel was told for the request before, so nothing is set anew
                begun, left = time.monotonic(), patience
            else:
                left = patience - (time.monotonic() - begun)
            some = self._receive_within(left)
            if not some:
                return None
            self._ahead += some

    @property
    def ahead(self) -> int:
        """How many bytes have come ahead of their turn."""
        return len(self._ahead)

    def receive_at_once(self, scratch: bytearray) -> int:
        """How many bytes have come, all of them ahead now; 0 if the peer ended. BlockingIOError if there is nothing."""
        size = self.socket.recv_into(scratch, 0, socket.MSG_DONTWAIT)
        self._ahead += memoryview(scratch)[:size]
        return size

    def peek_head(self) -> bytes | None:
        """The next head, which stays ahead; None if it is not whole, or longer than most."""
        found = _HEAD_END.search(self._ahead, 0, _FIRST_READ)
        return bytes(self._ahead[: found.end()]) if found else None

    def skip_head(self, size: int) -> None:
        """The head of that size has been dealt with."""
        del self._ahead[:size]

    def has_room(self) -> bool:
        """Whether the kernel takes a short answer without making us wait; also if the connection is over."""
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        return bool(poll.poll(0))

    def read_into(self, view: memoryview) -> int:
        """Bytes received into `view`, at least one; 0 if the peer ended."""
        if self._ahead:
            size = min(len(view), len(self._ahead))
            view[:size] = self._ahead[:size]
            del self._ahead[:size]
            return size
        self._wait_at_most(None)
        if self._lane is None:
            return self._receive_into(view)
        size = self._receive_into(view[: self._lane.step])
        self._lane.received(size)
        return size

    def watch_for_bytes(self, seconds: float) -> None:
        """Wait at most so long, without sleeping, until there is something to read."""
        if self._lane is not None:
            return  # a slow line is waited for
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        end = time.perf_counter() + seconds
        while not poll.poll(0) and time.perf_counter() < end:
            pass

    def read_line(self, limit: int) -> bytes:
        """Bytes up to a line feed, for chunked encoding; ValueError if there is none within `limit`."""
        while (end := self._ahead.find(b"\n", 0, limit)) < 0:
            if len(self._ahead) >= limit:
                raise ValueError("line too long")
            self._wait_at_most(None)
            some = self._receive()
            if not some:
                raise EOFError
            self._ahead += some
        line = bytes(self._ahead[: end + 1])
        del self._ahead[: end + 1]
        return line

    def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        step = self._send_step
        for at in range(0, len(view), step):
            piece = view[at : at + step]
            if self._lane is not None:
                self._lane.sending(len(piece))
            self._transmit(piece)

    def send_file(self, descriptor: int, offset: int, size: int) -> None:
        """Send a piece of a file, if possible without copying it; ConnectionError if the file ends early."""
        while size:
            step = min(size, self._send_step)
            if self._lane is not None:
                self._lane.sending(step)
            sent = self._transmit_file(descriptor, offset, step)
            if not sent:
                raise ConnectionError("the file ended before its announced size")
            offset += sent
            size -= sent

    def end_output(self) -> None:
        """Half-close: say that no more comes, and keep listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def wait_for_peer_to_close(self) -> None:
        """Let a peer that is still sending read our last answer: a close at once would reset it (protocol 1.4)."""
        if self.socket.fileno() < 0:
            return  # a fault has closed it already
        poll = select.poll()
        poll.register(self.socket, _PEER_GONE)
        poll.poll(self.timings.closing * 1000)

    def shut(self) -> None:
        """Let the owner's waits end; the socket stays its own."""
        if self._lane is not None:
            self._lane.stop()
        try:
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # not TLS's own, which is no other thread's business
        except OSError:
            pass  # the peer was faster

    def close(self) -> None:
        self.socket.close()

    @property
    def _send_step(self) -> int:
        return _SEND_WINDOW if self._lane is None else self._lane.step

    def _receive_within(self, seconds: float) -> bytes:
        """What has come within so many seconds; nothing if the peer is silent or gone."""
        if seconds <= 0:
            return b""
        self._wait_at_most(seconds)
        try:
            return self._receive()
        except OSError:
            return b""

    def _receive(self) -> bytes:
        some = self._receive_some(_FIRST_READ)
        if self._lane is not None:
            self._lane.received(len(some))
        return some

    # -- what TLS does in another way

    def _receive_some(self, limit: int) -> bytes:
        return self.socket.recv(limit)

    def _receive_into(self, view: memoryview) -> int:
        return self.socket.recv_into(view)

    def _transmit(self, piece: memoryview) -> None:
        self.socket.sendall(piece)

    def _transmit_file(self, descriptor: int, offset: int, size: int) -> int:
        return os.sendfile(self.socket.fileno(), descriptor, offset, size)

    def _wait_at_most(self, seconds: float | None) -> None:
        """Set the kernel's receive timeout: a blocking read needs no poll beside it, as Python's own timeouts do."""
        if seconds != self._patience:
            microseconds = max(1000, int((seconds or 0) * 1e6)) if seconds else 0
            timeout = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            self._patience = seconds
