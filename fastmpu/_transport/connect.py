"""From an origin to a stream: addresses, deadline, socket options, TLS.

A `Connector` is shared by all threads and does not change after it was made; each call works on a socket of its own.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from .exchange import CancelFlag, Stalled, wait_until
from .stream import NetworkStream, SocketStream
from .waiting import ready, unhindered

if TYPE_CHECKING:
    import ssl

# Longer than the clocks of an exchange should be. TCP_USER_TIMEOUT also ends a connection whose peer is alive but takes
# nothing for that long (measured on Linux 6.18), and then no fence is possible: the write clock has to run out first.
DEAD_PEER_SECONDS: Final = 120.0
_KEEPALIVE_SECONDS: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a connection leads (RFC 9110, section 4.3.1). `host` is ASCII, IPv6 without brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Connect = Callable[[Origin, float, CancelFlag | None], NetworkStream]
"""Opens a stream to an origin within so many seconds. Raises OSError, `Stalled`, `Cancelled`. The caller closes it."""


class NoTls(Exception):
    """https was asked for, and there is no context for it. Never leaves the package."""


class Connector:
    """The `Connect` for real networks.

    `tls` is the caller's context: it decides on trust and on checking names, and it is told to offer HTTP/1.1 only.
    Without one, https is refused (`NoTls`). `dead_peer_seconds`: after how long without progress the kernel gives
    up, where it can (Linux); a peer that is alive and accepts nothing counts as dead then.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, dead_peer_seconds: float = DEAD_PEER_SECONDS):
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        self._tls = tls
        self._dead_peer_seconds = dead_peer_seconds

    def __call__(self, origin: Origin, seconds: float, cancel: CancelFlag | None) -> NetworkStream:
        if origin.scheme == "https" and self._tls is None:
            raise NoTls("https needs a TLS context; give the transport tls=")
        until = monotonic() + seconds
        connected = self._open(origin, until, cancel)
        try:
            self._set_options(connected)
            if origin.scheme != "https" or self._tls is None:
                return SocketStream(connected)
            from .tls import TlsStream  # here, not above: a worker process without TLS starts sooner

            stream = TlsStream(connected, self._tls, origin.host)
        except BaseException:
            connected.close()
            raise
        try:
            stream.handshake(until, cancel)
        except BaseException:
            stream.close()
            raise
        return stream

    def _open(self, origin: Origin, until: float, cancel: CancelFlag | None) -> socket.socket:
        addresses = unhindered(partial(socket.getaddrinfo, origin.host, origin.port, type=socket.SOCK_STREAM))
        failure: OSError | Stalled = OSError(f"no address for {origin.host}")
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            # Each address gets its share of what is left, so that a silent one does not use up the time of a good one.
            now = monotonic()
            share = now + (until - now) / (len(addresses) - index)
            try:
                opened = socket.socket(family, kind, protocol)
            except OSError as error:  # no IPv6 here, or no descriptors left
                failure = error
                continue
            try:
                self._connect(opened, address, share, cancel)
            except (OSError, Stalled) as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
            else:
                return opened
        raise failure

    @staticmethod
    def _connect(opened: socket.socket, address: tuple[object, ...], until: float, cancel: CancelFlag | None) -> None:
        opened.setblocking(False)
        code = opened.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            wait_until(until, cancel, lambda seconds: ready(opened.fileno(), select.POLLOUT, seconds))
            code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _set_options(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in _KEEPALIVE_SECONDS.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
        if sys.platform == "linux":
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._dead_peer_seconds * 1000))
