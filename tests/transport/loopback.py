"""A hostile server on a real socket, for the transport's stories."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

import httpx

from fastmpu._transport import Body, BodyStream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull"


def stream_of(body: Body | httpx.SyncByteStream) -> httpx.SyncByteStream:
    """What a request of httpx takes."""
    return BodyStream(body) if isinstance(body, Body) else body


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, done: threading.Event):
        self.socket = sock
        self.done = done
        """Set when the test is over: wait for it to keep a connection open in silence."""
        self._pending = bytearray()
        self._buffer = bytearray(1 << 20)

    def read_head(self) -> bytes:
        """Up to the empty line; empty when the client has ended."""
        while b"\r\n\r\n" not in self._pending:
            data = self.socket.recv(65536)
            if not data:
                return b""
            self._pending += data
        end = self._pending.index(b"\r\n\r\n") + 4
        head = bytes(self._pending[:end])
        del self._pending[:end]
        return head

    def read(self, count: int) -> bytes:
        """`count` bytes of the body, or fewer when the client has ended."""
        while len(self._pending) < count:
            data = self.socket.recv(min(1 << 20, count - len(self._pending)))
            if not data:
                break
            self._pending += data
        data = bytes(self._pending[:count])
        del self._pending[:count]
        return data

    def sink(self, count: int) -> None:
        """Reads `count` bytes of the body into one buffer of 1 MiB, again and again."""
        left = count - min(count, len(self._pending))
        del self._pending[: count - left]
        while left:
            left -= self.socket.recv_into(self._buffer, min(left, len(self._buffer)))

    def read_request(self) -> bytes:
        """The body of one whole request."""
        head = self.read_head()
        return self.read(content_length(head)) if head else b""

    def read_to_end(self) -> int:
        """How many bytes came before the client's end."""
        count = len(self._pending)
        self._pending.clear()
        while data := self.socket.recv(1 << 20):
            count += len(data)
        return count

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes) -> None:
        """One byte a packet."""
        for byte in data:
            self.socket.sendall(bytes([byte]))

    def reset(self) -> None:
        """An end by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Server:
    """Runs `story(peer)` for each connection on a thread of its own, and closes the connection after it."""

    def __init__(self, *stories: Callable[[Peer], None], tls: ssl.SSLContext | None = None, receive_buffer: int = 0):
        self.connections = 0
        self.done = threading.Event()
        self._stories = stories
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/x"
        self._accepting = threading.Thread(target=self._accept, name="test-accept")

    def __enter__(self) -> Server:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(0.05)
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # kept open by a pool, mostly
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            story = self._stories[min(self.connections, len(self._stories) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(story, sock), name="test-peer")
            self._threads.append(thread)
            thread.start()

    def _run(self, story: Callable[[Peer], None], sock: socket.socket) -> None:
        self._sockets.append(sock)
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is None:
                story(Peer(sock, self.done))
            else:
                with self._tls.wrap_socket(sock, server_side=True) as wrapped:
                    self._sockets.append(wrapped)
                    story(Peer(wrapped, self.done))
        except OSError:
            pass  # the client may leave at any time
        finally:
            sock.close()


@contextlib.contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """A port whose queue is full, so that the kernel answers no more SYN."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def serve(answer: bytes = OK) -> Callable[[Peer], None]:
    """Reads requests whole and answers them all alike, until the client ends."""

    def story(peer: Peer) -> None:
        while head := peer.read_head():
            peer.read(content_length(head))
            peer.send(answer)

    return story
