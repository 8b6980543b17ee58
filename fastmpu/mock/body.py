"""A request's body: read by whoever wants it, and otherwise settled as Go's HTTP library settles it (protocol 1.4).

How an unread body ends decides whether the connection lives:

| what is unread when the answer is ready   | then                                                              |
|-------------------------------------------|-------------------------------------------------------------------|
| nothing                                   | the connection stays                                              |
| less than 256 KiB                         | read and forget it, answer, the connection stays                  |
| up to 256 KiB, announced with Expect      | answer now, read until the client closes                          |
| exactly 256 KiB                           | the same                                                          |
| more than 256 KiB                         | answer now, close; the sender has 0.5 s to read the answer        |
| anything, but the client said "close"     | the same                                                          |
"""

from __future__ import annotations

from typing import Protocol

from fastmpu.mock.answers import BodyBroken
from fastmpu.mock.blobs import Writer
from fastmpu.mock.heads import CONTINUE, Request
from fastmpu.mock.wire import Wire

__all__ = ["Body", "Sink"]

DRAIN_LIMIT = 256 << 10
_LINE_LIMIT = 4096
_SCRATCH = 64 << 10
# Seconds in which a receiver that is alone looks for more before it sleeps, as Go's scheduler does before it parks a
# thread: on the same machine, to be woken costs the sender more than what it has sent. With others it would keep the
# interpreter from them.
_WATCH = 20e-6

_receiving: set[Body] = set()  # all threads'; adding and discarding are one step of the interpreter each


class Sink(Protocol):
    """Sees the bytes of a body as they arrive."""

    def update(self, data: memoryview, /) -> None: ...


class Body:
    """The body of one request. `length` is -1 while chunked encoding leaves it open."""

    def __init__(self, wire: Wire, request: Request) -> None:
        self.length = request.length
        self.received = 0  # bytes of it that have come
        self.broken = False
        self._wire = wire
        self._left = max(0, request.length)  # of the body, or of the current chunk
        self._chunked = request.length < 0
        self._withheld = request.expects_continue  # the client waits for our 100 Continue
        self._ended = request.length == 0
        self._lingers = False
        self._malformed = False

    @property
    def unread(self) -> bool:
        return not self._ended

    def read_into(self, view: memoryview) -> int:
        """Bytes received into `view`; 0 at the body's end. BodyBroken if the connection ends first."""
        if self._ended:
            return 0
        try:
            if self._withheld:
                self._withheld = False
                self._wire.send(CONTINUE)
            if self._chunked and not self._left and not self._next_chunk():
                return 0
            size = self._wire.read_into(view[: self._left])
        except OSError as error:
            raise self.fail(f"read: {error.strerror}") from error
        if not size:
            raise self.fail("unexpected EOF")
        self._left -= size
        self.received += size
        if not self._left and not self._chunked:
            self._ended = True
        return size

    def read_all(self) -> bytes:
        """All of the body at once, for the small JSON of control messages."""
        gathered, window = bytearray(), memoryview(bytearray(min(self._left, _SCRATCH) or _SCRATCH))
        while size := self.read_into(window):
            gathered += window[:size]
        return bytes(gathered)

    def discard(self) -> None:
        """Read all of the body and forget it."""
        scratch = memoryview(bytearray(_SCRATCH))
        while self.read_into(scratch):
            pass

    def receive(self, writer: Writer, *sinks: Sink) -> None:
        """All of the body into a blob, window by window; each is given to the sinks while it is in the cache."""
        offset = 0
        _receiving.add(self)
        try:
            while size := self.read_into(window := writer.window(offset)):
                data = window[:size]
                writer.keep(offset, data)
                for sink in sinks:
                    sink.update(data)
                offset += size
                if self._left and len(_receiving) == 1:
                    self._wire.watch_for_bytes(_WATCH)
        finally:
            _receiving.discard(self)

    def settle(self, *, closing: bool) -> bool:
        """Deal with what nobody read, before the answer goes out. True if the connection has to close after it."""
        if self._ended or closing:
            return closing
        if self.broken:
            return self._malformed
        if self._withheld or (not self._chunked and self._left >= DRAIN_LIMIT):
            self._lingers = self._left <= DRAIN_LIMIT and not self._chunked
            return True
        return not self._drain(DRAIN_LIMIT)

    def close(self) -> None:
        """What follows an answer that said "close", before the socket is closed."""
        if self._ended or self.broken:
            return
        if self._lingers:
            # Read on until the body is there or the peer has gone; one that withholds it is waited for (protocol 10).
            self._withheld = False
            self._drain(DRAIN_LIMIT)
            return
        try:
            self._wire.end_output()
            self._wire.wait_for_peer_to_close()
        except OSError:
            pass  # the peer has gone, which is what this waits for

    def _drain(self, limit: int) -> bool:
        """Read and forget at most `limit` bytes; True if that was all."""
        scratch = memoryview(bytearray(_SCRATCH))
        try:
            while limit > 0 and (size := self.read_into(scratch)):
                limit -= size
        except BodyBroken:
            return False
        return self._ended

    def _next_chunk(self) -> bool:
        """Read the size line of the next chunk; False after the last one and its trailer."""
        try:
            line = self._wire.read_line(_LINE_LIMIT).strip()
            if not line:  # the line break that ends the chunk before
                line = self._wire.read_line(_LINE_LIMIT).strip()
            self._left = int(line.partition(b";")[0], 16)
            if self._left < 0:
                raise ValueError("negative")
            if self._left:
                return True
            while self._wire.read_line(_LINE_LIMIT).strip():
                pass
        except EOFError as error:
            raise self.fail("unexpected EOF") from error
        except ValueError as error:
            self._malformed = True  # what follows cannot be told from a next request
            raise self.fail("invalid byte in chunk length") from error
        self._ended = True
        return False

    def fail(self, message: str) -> BodyBroken:
        """What to raise when the body is not going to come whole."""
        self.broken = True
        return BodyBroken(message)
