"""`TlsStream`: a stream over TLS. It belongs to one thread at a time, as every stream does."""

from __future__ import annotations

import select
import socket
import ssl
import traceback
from typing import Final

from .exchange import CancelFlag, wait_until
from .stream import READABLE, SocketStream

# A record's payload (RFC 8446, section 5.1). One a call: OpenSSL says how much it took only when all is taken, so
# larger calls would leave it unknown what the kernel has.
RECORD_SIZE: Final = 16 * 1024


class TlsStream(SocketStream):
    """A connected socket under TLS. Bytes count as taken by the record. `handshake` comes first."""

    can_send_file = False
    _socket: ssl.SSLSocket

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str):
        """Owns `connected` from now on. `context` decides whether certificate and host name are checked."""
        super().__init__(_wrapped(connected, context, host))
        # TLS may have to write in order to read, and to read in order to write.
        self._in_mask = select.POLLIN
        self._out_mask = select.POLLOUT
        self._ended = False

    def handshake(self, until: float, cancel: CancelFlag | None) -> None:
        """Raises ssl.SSLError (an OSError), `Stalled` at `until` (monotonic seconds), `Cancelled`."""
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                mask = select.POLLIN
            except ssl.SSLWantWriteError:
                mask = select.POLLOUT
            wait_until(until, cancel, lambda seconds, mask=mask: self._wait(mask, 0, seconds))  # type: ignore[misc]

    def send(self, view: memoryview, more: bool = False) -> int | None:
        try:
            with view[:RECORD_SIZE] as record:
                taken = self._socket.send(record)
        except ssl.SSLWantWriteError:
            self._out_mask = select.POLLOUT
            return None
        except ssl.SSLWantReadError:
            self._out_mask = select.POLLIN
            return None
        return taken

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        """Not over TLS, which has to see the bytes: raises NotImplementedError."""
        raise NotImplementedError("a file cannot be sent over TLS by the kernel")

    def receive(self, count: int) -> bytes | None:
        if self._ended:
            return b""
        try:
            return self._socket.recv(count)
        except ssl.SSLZeroReturnError:  # what a peer's proper end looks like after ours
            return b""
        except ssl.SSLWantReadError:
            self._in_mask = select.POLLIN
            return None
        except ssl.SSLWantWriteError:
            self._in_mask = select.POLLOUT
            return None

    def wait(self, readable: bool, writable: bool, seconds: float) -> int:
        if readable and self._socket.pending():
            return READABLE
        return self._wait(self._in_mask if readable else 0, self._out_mask if writable else 0, seconds)

    def is_readable(self) -> bool:
        return self.wait(True, False, 0.0) != 0

    def half_close(self) -> None:
        """TLS's own end (close_notify), then TCP's.

        If a record is only partly in the kernel, or the kernel is full, only TCP's: the peer then finds its input cut,
        which is an end of the request as well. A peer that answers close_notify at once with its own, as TLS 1.2 wished
        it, cannot answer the request any more. And an answer that arrives while `unwrap` runs is lost with the TLS
        state (OpenSSL looks for the peer's end only): it then counts as missing, which is safe.
        """
        try:
            self._socket.unwrap()
        except ssl.SSLError:
            pass  # want-read is the normal case: our end is sent, theirs has not come
        else:
            # Theirs had come before. The socket is now without TLS: what it still gives may be anybody's.
            self._ended = True
        # SSLSocket.shutdown would drop the TLS state, and with it the answer.
        socket.socket.shutdown(self._socket, socket.SHUT_WR)


def _wrapped(connected: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        # A cut is an error, not an end: without its length, only TLS's own end tells that an answer is whole.
        return context.wrap_socket(
            connected, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
    except OSError as error:
        # Of a connection that was reset by then, `SSLSocket._create` leaves behind what it has made, open.
        for frame, _ in traceback.walk_tb(error.__traceback__):
            made = frame.f_locals.get("self")
            if isinstance(made, ssl.SSLSocket):
                made.close()
        raise
