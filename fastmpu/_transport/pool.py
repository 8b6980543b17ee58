"""`ConnectionPool`: which connection serves which origin.

Threads: any number. One lock guards the idle lists, the count of those in use and the closed flag; nothing is
connected, closed or waited for under it. An acquired connection belongs to its thread until it is released.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Final

from .connect import Connect, Origin
from .connection import Connection
from .exchange import CancelFlag

# Well below the server's 30 s (protocol 1.4): a part never rides a connection that may just be closing.
IDLE_SECONDS: Final = 5.0
MAX_IDLE: Final = 64


class ConnectionPool:
    """Keeps idle connections, the last used first in use again. How many are in use is the caller's to bound."""

    def __init__(self, connect: Connect, *, idle_seconds: float = IDLE_SECONDS, max_idle: int = MAX_IDLE):
        """`max_idle` counts per origin. `connect` is `Connector(...)`, or `ScriptedStream.connector(...)` in a test."""
        self._connect = connect
        self._idle_seconds = idle_seconds
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: dict[Origin, deque[Connection]] = {}  # the longest idle at the left
        self._in_use = 0
        self._closed = False

    def expect(self, connections: int) -> None:
        """Keeps so many of each origin, or as many as before, if that is more."""
        with self._lock:
            self._max_idle = max(self._max_idle, connections)

    def acquire(self, origin: Origin, seconds: float, cancel: CancelFlag | None) -> Connection:
        """A kept connection that is still good, or a new one within `seconds`. Give it to `release` in any event.

        Raises OSError, `Stalled` or `Cancelled` from connecting, RuntimeError when the pool is closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the connection pool is closed")
                expired = self._take_expired(monotonic() - self._idle_seconds)
                idle = self._idle.get(origin)
                connection = idle.pop() if idle else None
                self._in_use += 1
            for other in expired:
                other.close()
            try:
                if connection is None:
                    return Connection(self._connect(origin, seconds, cancel), origin)
                if not connection.is_readable():
                    return connection
            except BaseException:
                self._leave()
                if connection is not None:
                    connection.close()
                raise
            self._leave()
            connection.close()

    def release(self, connection: Connection) -> None:
        """Takes a connection back: keeps it if it can be used again, else closes it."""
        surplus: Connection | None = connection
        with self._lock:
            self._in_use -= 1
            if connection.reusable and not self._closed and self._max_idle > 0:
                connection.idle_since = monotonic()
                idle = self._idle.setdefault(connection.origin, deque())
                idle.append(connection)
                surplus = idle.popleft() if len(idle) > self._max_idle else None
        if surplus is not None:
            surplus.close()

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it comes back. May be called again."""
        with self._lock:
            self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Closes what is idle now: whoever comes next has a new connection, or one that served another since."""
        with self._lock:
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def __repr__(self) -> str:
        with self._lock:
            idle = sum(map(len, self._idle.values()))
            origins = sum(map(bool, self._idle.values()))
            state = "closed" if self._closed else f"{idle} idle at {origins} origins"
            return f"<ConnectionPool {state}, {self._in_use} in use>"

    def _leave(self) -> None:
        with self._lock:
            self._in_use -= 1

    def _take_expired(self, before: float) -> list[Connection]:
        """Called under the lock. Of all origins, so that a target that is gone does not keep its sockets open."""
        expired = []
        for origin in list(self._idle):
            idle = self._idle[origin]
            while idle and idle[0].idle_since < before:
                expired.append(idle.popleft())
            if not idle:
                del self._idle[origin]
        return expired
