"""HTTPS of one node: its certificate, what it asks of clients, and the `Wire` under it (protocol 1.5).

TLS 1.2 and newer, ALPN `http/1.1` alone. Reads go straight into the caller's window, a record (16 KiB) at a time; files
are read and encrypted, as there is no sendfile under TLS.

How it ends. A client may half-close with `close_notify` or with a bare FIN: both read as the end, and its answer still
goes out. This side says `close_notify` before its FIN, whether it half-closes or closes, as Go does.

Client certificates (`client_auth`), as AIStore numbers them: 0 none asked for, 1 asked for and never verified, 2 any
certificate, not verified, 3 verified if given, 4 required and verified. Python's ssl verifies what it asks for, so 1
and 2 are pyOpenSSL's work (`lenient_tls`).

Threads: a `NodeTls` is asked by the listener and by connections, and changed by any thread; a swap is one assignment,
and the count of handshakes to cut has a lock.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from fastmpu.mock.links import Lane
from fastmpu.mock.wire import Timings, Wire

if TYPE_CHECKING:
    from fastmpu.mock.lenient_tls import LenientContext, LenientSocket

__all__ = ["CLIENT_AUTH", "NodeTls", "Tls", "TlsWire"]

CLIENT_AUTH = (0, 1, 2, 3, 4)
_VERIFIED = {3: ssl.CERT_OPTIONAL, 4: ssl.CERT_REQUIRED}
_LENIENT = (1, 2)
_PLAIN_STARTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")  # what Go's server takes for HTTP without TLS
_PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_HELLO_LIMIT = 1 << 16
_Plain = socket.socket  # its methods reach the bytes below TLS


@dataclass(frozen=True)
class Tls:
    """PEM files. `key` may be in the certificate's file. `ca` is what clients are to trust, for those who tell them."""

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str] | None = None
    client_auth: int = 0
    client_ca: str | os.PathLike[str] | None = None
    ca: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext | LenientContext:
        """ValueError for a mode that does not exist or lacks its `client_ca` or pyOpenSSL; OSError for files that will
        not do."""
        if self.client_auth not in CLIENT_AUTH:
            raise ValueError(f"client_auth is one of {', '.join(map(str, CLIENT_AUTH))}, not {self.client_auth!r}")
        if self.client_auth >= 2 and self.client_ca is None:
            raise ValueError(f"client_auth={self.client_auth} needs client_ca")  # AIStore, too, wants it for 2
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # a bare FIN ends what comes in, and nothing else
        context.num_tickets = 1
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = _VERIFIED.get(self.client_auth, ssl.CERT_NONE)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
        if self.client_auth in _LENIENT:
            from fastmpu.mock.lenient_tls import LenientContext  # pyOpenSSL is no dependency

            return LenientContext(self)
        return context


class NodeTls:
    """The TLS of one node, which may change while the node runs. Connections that are open keep what they have."""

    def __init__(self, tls: Tls, issue: Callable[[str], Tls] | None = None) -> None:
        """`issue` makes certificates by kind, where they are self-made."""
        self.shown = tls, tls.context()
        self._issue = issue
        self._bad: dict[object, ssl.SSLContext | LenientContext] = {}
        self._lock = threading.Lock()
        self._cuts = 0

    def use(self, tls: Tls) -> None:
        self.shown = tls, tls.context()

    def bad(self, kind: str, instead_of: Tls) -> ssl.SSLContext | LenientContext:
        """With a certificate of this kind, made when it is first asked for. Clients are asked for the same."""
        key = kind, instead_of.client_auth, instead_of.client_ca
        with self._lock:
            if key not in self._bad:
                if self._issue is None:
                    raise ConnectionAbortedError("certificates by kind are made only with tls='self-made'")
                made = replace(self._issue(kind), client_auth=instead_of.client_auth, client_ca=instead_of.client_ca)
                self._bad[key] = made.context()
            return self._bad[key]

    def cut_handshakes(self, times: int) -> None:
        """End the next connections after the client's first message, without an answer."""
        with self._lock:
            self._cuts = times

    def takes_cut(self) -> bool:
        """Whether this handshake is one to cut; it counts as one."""
        with self._lock:
            cut = self._cuts > 0
            self._cuts -= cut
        return cut


class TlsWire(Wire):
    """A connection under TLS."""

    socket: ssl.SSLSocket | LenientSocket

    def __init__(self, sock: _Plain, timings: Timings, lane: Lane | None, tls: NodeTls) -> None:
        super().__init__(sock, timings, lane)
        self._tls = tls
        self._greeted = False
        self._own, context = tls.shown
        self.socket = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def show_bad(self, kind: str) -> None:
        """Show a bad certificate instead, on this connection alone. Before `open`."""
        self.socket.context = cast(Any, self._tls.bad(kind, self._own))  # of the kind that it has

    def open(self) -> None:
        super().open()
        self._wait_at_most(self.timings.header)
        hello = _Plain.recv(self.socket, len(_PLAIN_STARTS[0]), socket.MSG_PEEK)
        if hello in _PLAIN_STARTS:
            _Plain.recv(self.socket, _HELLO_LIMIT)
            _Plain.sendall(self.socket, _PLAIN_ANSWER)
            raise ConnectionAbortedError("not TLS")
        if self._tls.takes_cut():
            _Plain.recv(self.socket, _HELLO_LIMIT)
            raise ConnectionAbortedError("the handshake is cut")
        self.socket.do_handshake()
        self._greeted = True
        if self._lane is not None:
            for _ in range(1 if self.socket.version() == "TLSv1.3" else 2):
                self._lane.travel()

    def watch_for_bytes(self, seconds: float) -> None:
        """What has come may have been read already, and wait to be decrypted."""

    def end_output(self) -> None:
        self._say_goodbye()
        _Plain.shutdown(self.socket, socket.SHUT_WR)

    def close(self) -> None:
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        """Send close_notify, once, and do not wait for the peer's."""
        if not self._greeted:
            return
        self._greeted = False
        try:
            self.socket.settimeout(0)
            self.socket.unwrap()
        except (OSError, ValueError):
            pass  # ours is out and the peer's has not come, or the peer is gone

    def _transmit(self, piece: memoryview) -> None:
        self._wait_at_most(None)  # the patience of reads is not that of writes
        self.socket.sendall(piece)

    def _transmit_file(self, descriptor: int, offset: int, size: int) -> int:
        data = os.pread(descriptor, size, offset)
        self._transmit(memoryview(data))
        return len(data)

    def _wait_at_most(self, seconds: float | None) -> None:
        """OpenSSL goes on after the kernel's receive timeout, so this one is Python's."""
        if seconds != self._patience or not self._greeted:
            self.socket.settimeout(seconds)
            self._patience = seconds
