"""TLS that asks clients for a certificate and takes whatever comes: modes 1 and 2 of `client_auth`. Needs pyOpenSSL.

Python's ssl verifies every certificate it asks for; pyOpenSSL lets its user have the last word on each. A
`LenientSocket` is a real socket, as `ssl.SSLSocket` is: unbound methods of `socket.socket` reach the bytes below TLS,
and errors are the ones that ssl raises. It has the methods that `TlsWire` and the faults use, and no others.

Threads: as `Wire` has it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fastmpu.mock.tls import Tls

try:
    from OpenSSL import SSL
except ImportError as error:
    raise ValueError(
        "client_auth 1 and 2 need the package 'pyOpenSSL' (pip install pyopenssl): Python's ssl cannot take a "
        "certificate without verifying it"
    ) from error

__all__ = ["LenientContext", "LenientSocket"]

_T = TypeVar("_T")
_PROTOCOL = b"http/1.1"
_RECORD = 1 << 14  # what one call reads or writes at most; pyOpenSSL allocates as much as it is asked to read


class LenientContext:
    """What `Tls.context` makes for these modes. `tls` has been found good by ssl."""

    def __init__(self, tls: Tls) -> None:
        self.ssl = made = SSL.Context(SSL.TLS_METHOD)
        made.set_min_proto_version(SSL.TLS1_2_VERSION)
        made.set_options(ssl.OP_IGNORE_UNEXPECTED_EOF)
        made.set_alpn_select_callback(_choose)
        made.use_certificate_chain_file(os.fspath(tls.certificate))
        made.use_privatekey_file(os.fspath(tls.key or tls.certificate))
        if tls.client_auth == 2 and tls.client_ca is not None:
            made.load_client_ca(os.fsencode(tls.client_ca))  # names for clients to choose by, as Go sends them
        made.set_session_id(b"fastmpu mock")  # a client with a certificate could not resume otherwise
        required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if tls.client_auth == 2 else 0
        made.set_verify(SSL.VERIFY_PEER | required, lambda *_: True)

    def wrap_socket(
        self, sock: socket.socket, *, server_side: bool = True, do_handshake_on_connect: bool = False
    ) -> LenientSocket:
        """As `ssl.SSLContext` has it; `sock` is empty afterwards."""
        assert server_side
        assert not do_handshake_on_connect
        return LenientSocket(sock, self)


def _choose(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    return _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class LenientSocket(socket.socket):
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, context: LenientContext) -> None:
        patience = sock.gettimeout()
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.settimeout(patience)
        self.context = context

    @property
    def context(self) -> LenientContext:
        return self._context

    @context.setter
    def context(self, context: LenientContext) -> None:
        """Before the handshake alone."""
        self._context = context
        self.connection = SSL.Connection(context.ssl, self)
        self.connection.set_accept_state()

    def do_handshake(self) -> None:
        self._insist(self.connection.do_handshake)

    def version(self) -> str:
        return self.connection.get_protocol_version_name()

    def unwrap(self) -> None:
        """Send close_notify, and do not wait for the peer's."""
        self._insist(self.connection.shutdown)

    def recv(self, size: int, flags: int = 0) -> bytes:
        assert not flags
        buffer = bytearray(min(size, _RECORD))
        return bytes(buffer[: self.recv_into(buffer)])

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        assert not flags
        size = min(size or len(buffer), _RECORD)
        try:
            return self._insist(lambda: self.connection.recv_into(buffer, size))
        except ssl.SSLZeroReturnError:
            return 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        assert not flags
        view = memoryview(data)
        while view:
            piece = view[:_RECORD]
            view = view[self._insist(partial(self.connection.send, piece)) :]

    def _insist(self, act: Callable[[], _T]) -> _T:
        """`act`, as often as OpenSSL wants it repeated within the timeout; its errors as those of ssl."""
        timeout = self.gettimeout()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.fileno() < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # OpenSSL knows a number that may be another's now
            try:
                return act()
            except SSL.WantReadError:
                wanted: int = select.POLLIN
            except SSL.WantWriteError:
                wanted = select.POLLOUT
            except SSL.ZeroReturnError as error:
                raise ssl.SSLZeroReturnError("the peer has ended TLS") from error
            except SSL.SysCallError as error:
                number, reason = error.args
                if number > 0:
                    raise OSError(number, os.strerror(number)) from error
                raise ssl.SSLEOFError(str(reason)) from error
            except SSL.Error as error:
                raise ssl.SSLError(str(error)) from error
            if timeout == 0:
                raise ssl.SSLWantReadError if wanted == select.POLLIN else ssl.SSLWantWriteError
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            poll = select.poll()
            poll.register(self.fileno(), wanted)
            if not poll.poll(None if left is None else left * 1000):
                raise TimeoutError("timed out")
