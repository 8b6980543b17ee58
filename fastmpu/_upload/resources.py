"""What all uploads of one job share, and the bounds that hold over all of them together.

Any thread: each thing in here has a lock of its own, where it needs one.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final

from .._sizes import MiB, format_size
from ..errors import UsageError
from .bandwidth import LEAST_PIECE, Bandwidth
from .config import UploadOptions
from .retry import RetryBudget
from .throttle import Throttle
from .trace import Trace

# The most that one part in flight holds: a window's buffer and what TLS keeps of it, and with maps a window of those.
READ_FOOTPRINT: Final = 1 * MiB
MAP_FOOTPRINT: Final = 5 * MiB


def bounded(options: UploadOptions) -> UploadOptions:
    """The options with what `max_memory` and `max_bandwidth` leave of `max_concurrency`, and of reading by maps.

    UsageError if `max_memory` is too little for a single part.
    """
    count, read = options.max_concurrency, options.read
    memory, rate = options.max_memory, options.max_bandwidth
    if isinstance(memory, int):
        if read == "auto" and memory < count * MAP_FOOTPRINT:
            read = "pread"
        each = READ_FOOTPRINT if read == "pread" else MAP_FOOTPRINT
        if memory < each:
            raise UsageError(f"max_memory={memory}: one part in flight takes up to {format_size(each)}")
        count = min(count, memory // each)
    if isinstance(rate, int):
        # Else a connection would wait so long for its turn that it counted as stalled on the way.
        count = min(count, max(1, rate // LEAST_PIECE))
    return replace(options, max_concurrency=count, read=read)


@dataclass(frozen=True)
class Resources:
    """One job's. `options` are within their bounds. `lanes`: threads for parts, where several uploads share them; else
    each upload has its own. Close it when no upload runs."""

    options: UploadOptions
    budget: RetryBudget
    throttle: Throttle
    bandwidth: Bandwidth | None
    trace: Trace | None
    lanes: Executor | None
    inline: UploadOptions
    """The same, for what a lane sends by itself."""

    @classmethod
    def of(cls, options: UploadOptions, lanes: Executor | None = None) -> Resources:
        options = bounded(options)
        rate = options.max_bandwidth
        return cls(
            options,
            RetryBudget(),
            Throttle(options.max_concurrency),
            Bandwidth(rate) if isinstance(rate, int) else None,
            Trace(options.trace) if options.trace else None,
            lanes,
            replace(options, engine="inline"),
        )

    def close(self) -> None:
        """Write the trace, and end what threads there are."""
        with ExitStack() as stack:
            if self.bandwidth is not None:
                stack.callback(self.bandwidth.close)
            if self.trace is not None:
                self.trace.write()

    def __enter__(self) -> Resources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
