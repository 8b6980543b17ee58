"""`ScriptedStream`: the double of a network stream, shipped for tests of this package and of those above it.

It belongs to one thread at a time, as every stream does. A connector's script is shared by its streams and has no lock:
it is for requests that follow each other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import sleep

from .body import FileRange, Piece
from .connect import Origin
from .exchange import LONGEST_NAP_SECONDS, CancelFlag
from .stream import READABLE, WRITABLE, NetworkStream


@dataclass(frozen=True)
class Reply:
    """What comes back for one request, and when.

    `data` is delivered at most `step` bytes at a time, then `end`: nothing more (None), the peer's end ("close"), or an
    error. It comes when the client waits for nothing but it; or, early, once `at` bytes of the request were taken: no
    more are then, and with `send_error` sending more raises it. `after_half_close`: not before our half is closed.
    """

    data: bytes = field(default=b"", repr=False)
    step: int | None = None
    end: str | OSError | None = None
    at: int | None = None
    send_error: OSError | None = None
    after_half_close: bool = False


class ScriptedStream(NetworkStream):
    """Replays `replies`, one a request. A request begins with the first send after the last reply was read whole.

    `accept` is the most that a send takes; every other send then takes nothing at all. What was sent stays visible:
    `sent` holds the very buffers (views of them, so `sent[1].obj is original` says that nothing was copied) and file
    ranges, `wire` the bytes as a server would have seen them.
    """

    def __init__(self, replies: Iterable[bytes | Reply] = (), *, accept: int | None = None, send_file: bool = True):
        self.can_send_file = send_file
        self.sent: list[Piece] = []
        self.wire = bytearray()
        self.half_closed = False
        self.closed = False
        self._replies: deque[bytes | Reply] = replies if isinstance(replies, deque) else deque(replies)
        self._accept = accept
        self._full = False
        self._reply: Reply | None = None
        self._taken = 0
        self._delivered = 0
        self._awaited = False

    @staticmethod
    def connector(
        replies: Iterable[bytes | Reply] = (), *, accept: int | None = None, send_file: bool = True
    ) -> ScriptedConnector:
        """A connect function for the pool. Its streams take their replies from this one list, in order."""
        return ScriptedConnector(replies, accept=accept, send_file=send_file)

    def send(self, view: memoryview, more: bool = False) -> int | None:
        count = self._room(view.nbytes)
        if count:
            taken = memoryview(view)[:count]
            self.sent.append(taken)
            self.wire += taken
        return count

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        room = self._room(count)
        if room is None:
            return None
        data = os.pread(fd, room, offset)
        self._taken -= room - len(data)
        if data:
            self.sent.append(FileRange(fd, offset, len(data)))
            self.wire += data
        return len(data)

    def receive(self, count: int) -> bytes | None:
        reply = self._reply
        if reply is None or not self._is_due(reply):
            return None
        data = reply.data[self._delivered :][: min(count, reply.step or count)]
        self._delivered += len(data)
        if not data and isinstance(reply.end, OSError):
            raise reply.end
        if self._delivered == len(reply.data) and reply.end is None:
            self._reply = None
        return data

    def wait(self, readable: bool, writable: bool, seconds: float) -> int:
        """Sleeps for `seconds` when the script has nothing; raises AssertionError if that would be for ever."""
        ready = 0
        self._awaited = self._awaited or not writable
        if readable and self.is_readable():
            ready |= READABLE
        if writable and not self._holds():
            ready |= WRITABLE
        if not ready:
            if seconds >= LONGEST_NAP_SECONDS:
                raise AssertionError("the script has nothing more, and no clock or cancel flag would end the wait")
            sleep(seconds)
        return ready

    def half_close(self) -> None:
        self.half_closed = True

    def is_readable(self) -> bool:
        return self._reply is not None and self._is_due(self._reply)

    def close(self) -> None:
        self.closed = True

    def _is_due(self, reply: Reply) -> bool:
        if self._delivered == len(reply.data) and reply.end is None:
            return False
        come = self._awaited if reply.at is None else self._taken >= reply.at
        return come and (self.half_closed or not reply.after_half_close)

    def _holds(self) -> bool:
        reply = self._reply
        return reply is not None and reply.at is not None and reply.send_error is None and self._taken >= reply.at

    def _room(self, wanted: int) -> int | None:
        reply = self._reply
        if reply is None:
            scripted = self._replies.popleft() if self._replies else Reply()
            reply = self._reply = Reply(scripted) if isinstance(scripted, bytes) else scripted
            self._taken = self._delivered = 0
            self._awaited = False
        at = reply.at
        if at is not None and self._taken >= at:
            if reply.send_error is not None:
                raise reply.send_error
            return None
        if self._accept is not None:
            self._full = not self._full
            if self._full:
                return None
        room = min(wanted, wanted if self._accept is None else self._accept)
        if at is not None:
            room = min(room, at - self._taken)
        self._taken += room
        return room


class ScriptedConnector:
    """A `Connect` that gives scripted streams; `streams` has them all, in the order in which they were asked for."""

    def __init__(self, replies: Iterable[bytes | Reply], *, accept: int | None, send_file: bool):
        self.streams: list[ScriptedStream] = []
        self._replies = deque(replies)
        self._accept = accept
        self._send_file = send_file

    def __call__(self, origin: Origin, seconds: float, cancel: CancelFlag | None) -> ScriptedStream:
        stream = ScriptedStream(self._replies, accept=self._accept, send_file=self._send_file)
        self.streams.append(stream)
        return stream
