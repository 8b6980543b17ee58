"""The thread that lets a writer in while the workers wait on the network.

Thread: one, "fastmpu-lease", alive as long as the `with` block. It owns nothing; it calls `source.serve_lease()`, which
has the locking of its own source. It ends by itself when there is nothing to guard any more.
"""

from __future__ import annotations

import threading
from types import TracebackType

from .._source import Source

POLL = 0.02  # seconds; a writer that the kernel holds back for our lease must be let go within 50 ms (design section 4)


class LeaseGuard:
    """Guards a source's lease from entry to exit."""

    def __init__(self, source: Source):
        self._source = source
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if self._source.serve_lease():
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="fastmpu-lease")
            self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(POLL) and self._source.serve_lease():
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join()
