"""Bytes to and from one peer, without blocking: `NetworkStream`, and `SocketStream` over plain TCP.

A stream belongs to one thread at a time, as the connection does that it is part of.
It has no lock. Whoever got it from a connector closes it.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios
from abc import ABC, abstractmethod
from typing import Final

from .waiting import waiter

READABLE: Final = 1
WRITABLE: Final = 2
_MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)


class NetworkStream(ABC):
    """What a connection needs of the network. As in `io.RawIOBase`, None means that it would have to wait.

    Every method raises OSError for what the network does, and none of them waits but `wait`.
    """

    can_send_file: bool = False
    """Whether `send_file` may be called."""

    @abstractmethod
    def send(self, view: memoryview, more: bool = False) -> int | None:
        """Gives bytes of `view` to the kernel; how many it took, at least 1. `more`: another send follows at once."""

    @abstractmethod
    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        """Lets the kernel take bytes from a file; how many it took. 0 means that the file ends at `offset`.

        OSErrors other than ConnectionError and TimeoutError may also be the file's.
        """

    @abstractmethod
    def receive(self, count: int) -> bytes | None:
        """At most `count` bytes; empty when the peer has ended its half."""

    @abstractmethod
    def wait(self, readable: bool, writable: bool, seconds: float) -> int:
        """Waits for what is asked for; `READABLE | WRITABLE` as far as true, 0 after `seconds`. A failure is both."""

    def unacknowledged(self) -> int:
        """Bytes that the kernel took and the peer's has not acknowledged; 0 where that cannot be known."""
        return 0

    @abstractmethod
    def half_close(self) -> None:
        """Ends our half after what the kernel has taken, so that the peer sees an end of file; receiving goes on."""

    @abstractmethod
    def is_readable(self) -> bool:
        """Whether bytes, an end or an error are there. On an idle connection any of them means: do not use it again."""

    @abstractmethod
    def close(self) -> None:
        """Gives the connection up, whatever is in flight. May be called again."""


class SocketStream(NetworkStream):
    """A connected TCP socket, which it owns from now on."""

    can_send_file = hasattr(os, "sendfile")

    def __init__(self, connected: socket.socket):
        self._socket = connected
        self._socket.setblocking(False)
        self._fd = connected.fileno()
        self._mask = select.POLLIN
        self._poll = select.poll()
        self._poll.register(self._fd, self._mask)

    def send(self, view: memoryview, more: bool = False) -> int | None:
        try:
            return self._socket.send(view, _MSG_MORE if more else 0)
        except BlockingIOError:
            return None

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        try:
            return os.sendfile(self._fd, fd, offset, count)
        except BlockingIOError:
            return None

    def receive(self, count: int) -> bytes | None:
        try:
            return self._socket.recv(count)
        except BlockingIOError:
            return None

    def wait(self, readable: bool, writable: bool, seconds: float) -> int:
        return self._wait(select.POLLIN if readable else 0, select.POLLOUT if writable else 0, seconds)

    def unacknowledged(self) -> int:
        if sys.platform != "linux":
            return 0
        return int.from_bytes(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)  # tcp(7), SIOCOUTQ

    def half_close(self) -> None:
        """TCP's `shutdown(SHUT_WR)`: AIStore then answers a cut request (protocol H3)."""
        self._socket.shutdown(socket.SHUT_WR)

    def is_readable(self) -> bool:
        if self._mask == select.POLLIN:
            return bool(self._poll.poll(0))
        return self.wait(True, False, 0.0) != 0

    def close(self) -> None:
        self._socket.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._socket.fileno() < 0 else 'open'}>"

    def _wait(self, in_mask: int, out_mask: int, seconds: float) -> int:
        """`in_mask` and `out_mask`: the events that reading and writing wait for; 0 for not interested."""
        mask = in_mask | out_mask
        other = waiter() if seconds > 0 else None
        if other is not None:
            events = other.ready(self._fd, mask, seconds)
        else:
            if mask != self._mask:  # one poll object for all waits: these are many (waiting.ready makes a new one)
                self._poll.modify(self._fd, mask)
                self._mask = mask
            come = self._poll.poll(seconds * 1000)
            events = come[0][1] if come else 0
        # Hang-ups and errors come unasked and concern both directions: the next call says what they are.
        failed = events & ~(select.POLLIN | select.POLLOUT)
        ready = 0
        if in_mask and (failed or events & in_mask):
            ready |= READABLE
        if out_mask and (failed or events & out_mask):
            ready |= WRITABLE
        return ready
