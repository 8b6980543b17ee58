"""What happened when, as a file that Perfetto and chrome://tracing open: the Chrome trace event format, "X" events.

Any thread may add spans; one lock, held for an append. Written once, at the end, by whoever made it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._transport import Exchange
from ..errors import UsageError

logger = logging.getLogger("fastmpu")


class Trace:
    """Collects spans of one job and writes them to `path`. UsageError now if that cannot be written."""

    def __init__(self, path: str):
        self._path = Path(path)
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._threads: dict[int, str] = {}
        try:
            self._path.touch()
        except OSError as error:
            raise UsageError(f"trace={path!r} cannot be written: {error}") from error

    def span(self, name: str, began: float, ended: float, **args: object) -> None:
        """From `began` to `ended`, monotonic seconds, in the track of the calling thread. Spans within others are shown
        below them."""
        thread = threading.current_thread()
        event = {
            "name": name,
            "cat": "fastmpu",
            "ph": "X",
            "ts": round(began * 1e6, 3),
            "dur": round(max(0.0, ended - began) * 1e6, 3),
            "pid": os.getpid(),
            "tid": thread.native_id,
            "args": args,
        }
        with self._lock:
            self._events.append(event)
            self._threads[thread.native_id or 0] = thread.name

    def attempt(self, what: str, exchange: Exchange, attempt: int) -> None:
        """One request with a body, of this thread: all of it, and below it the sending and the wait for the answer."""
        ended = time.monotonic()
        args = {"bytes": exchange.handed, "attempt": attempt, "status": exchange.status}
        self.span(what, exchange.began, ended, **args)
        if exchange.last_sent:
            source = round(exchange.source_seconds, 6)
            self.span("send", exchange.began, exchange.last_sent, read_and_checksum_seconds=source)
            self.span("server wait", exchange.last_sent, exchange.answered_at or ended)

    def write(self) -> None:
        """All of it, or, where the disk is full, the old file and a warning; never half a one. What was uploaded does
        not depend on it."""
        with self._lock:
            events = list(self._events)
            threads = dict(self._threads)
        names = [
            {"name": "thread_name", "ph": "M", "pid": os.getpid(), "tid": tid, "args": {"name": name}}
            for tid, name in sorted(threads.items())
        ]
        half = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            half.write_text(json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms"}))
            half.replace(self._path)
        except OSError as error:
            logger.warning("the trace %s could not be written: %s", self._path, error)
            with suppress(OSError):
                half.unlink(missing_ok=True)
