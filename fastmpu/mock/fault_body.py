"""A request's body that faults see before the handler does: stops at given bytes, a slower pace, changed bytes.

A stop acts when the handler has been given so many bytes and wants more. At the body's end it wants to know that there
is no more: the client has sent everything, and the handler has not done anything with it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastmpu.mock.answers import BodyBroken, Refusal
from fastmpu.mock.body import Body

__all__ = ["FaultyBody", "Stop"]

_PEEK_LIMIT = 64 << 10
_SCRATCH = 64 << 10
_NEVER = 1 << 62

Rewrite = Callable[[bytes], bytes]
"""Takes the next piece of a stream and gives what becomes of it; with b"" the stream ends."""


@dataclass
class Stop:
    """At `byte` (None: the end; negative: from the end) something happens."""

    byte: int | None
    act: Callable[[], None]

    def place(self, length: int) -> int:
        if length < 0:  # chunked encoding: the end is not known yet
            return _NEVER if self.byte is None or self.byte < 0 else self.byte
        if self.byte is None:
            return length
        return min(length, self.byte if self.byte >= 0 else max(0, length + self.byte))


class FaultyBody(Body):
    """Set up by faults before the handler runs; without any it is the plain body."""

    _front = b""  # read ahead by `peek`
    _broken_at_front: BodyBroken | None = None

    def set_up(self, stops: list[Stop], pacers: list[Callable[[int], int]], rewrites: list[Rewrite]) -> None:
        """A pacer waits until so many bytes have passed, and tells how many may come next."""
        self._stops = sorted(((stop.place(self.length), stop) for stop in stops), key=lambda item: item[0])
        self._pacers, self._rewrites = pacers, rewrites
        self._step = min((pacer(0) for pacer in pacers), default=_NEVER)
        self._position = 0
        self._out = bytearray()  # rewritten, and not yet given to the handler
        self._given = 0
        self._exhausted = False

    def peek(self) -> bytes:
        """All of a short body, which stays to be read; as much of it as comes if it breaks off."""
        if not 0 < self.length <= _PEEK_LIMIT:
            return b""
        front, scratch = bytearray(), memoryview(bytearray(self.length))
        try:
            while size := super().read_into(scratch):
                front += scratch[:size]
        except BodyBroken as error:
            self._broken_at_front = error
        self._front = bytes(front)
        return self._front

    def stop_without_body(self) -> None:
        """Nobody will read what is not there: what should happen in it happens now."""
        if self.length == 0:
            self._reach(0)

    def read_into(self, view: memoryview) -> int:
        self._reach(self._position)
        if not self._rewrites:
            return self._next(view)
        scratch = memoryview(bytearray(_SCRATCH))
        while not self._out and not self._exhausted:
            size = self._next(scratch)
            piece = bytes(scratch[:size])
            for rewrite in self._rewrites:
                piece = rewrite(piece) if piece or not size else b""
            self._exhausted = not size
            self._out += piece
            self._fit()
        size = min(len(view), len(self._out))
        view[:size] = self._out[:size]
        del self._out[:size]
        self._given += size
        return size

    def settle(self, *, closing: bool) -> bool:
        try:
            return super().settle(closing=closing)
        except Refusal:  # an early answer, to what was being thrown away
            return True

    def _fit(self) -> None:
        """The size stays what was announced."""
        if self.length < 0:
            return
        room = self.length - self._given
        del self._out[room:]
        if self._exhausted:
            self._out += bytes(room - len(self._out))

    def _next(self, view: memoryview) -> int:
        """The next bytes as the client has sent them, up to the next stop."""
        until = self._stops[0][0] - self._position if self._stops else len(view)
        view = view[: min(until, self._step, len(view))]
        if self._front:
            size = min(len(view), len(self._front))
            view[:size], self._front = self._front[:size], self._front[size:]
        elif self._broken_at_front is not None:
            raise self._broken_at_front
        else:
            size = super().read_into(view)
        self._position += size
        for pacer in self._pacers:
            pacer(size)
        if not size:
            self._reach(_NEVER)
        return size

    def _reach(self, position: int) -> None:
        while self._stops and self._stops[0][0] <= position:
            _, stop = self._stops.pop(0)
            stop.act()
