"""Exit codes, and which error ends in which (features section 4)."""

from __future__ import annotations

from enum import IntEnum

from ..errors import (
    AuthError,
    ConnectFailedError,
    FastMPUError,
    IntegrityError,
    NotAIStoreError,
    SourceChangedError,
    UsageError,
)


class Status(IntEnum):
    """What the shell sees."""

    done = 0
    failed = 1
    usage = 2
    resumable = 3
    integrity = 4
    source_changed = 5
    unreachable = 6

    @staticmethod
    def explained() -> str:
        return (
            "0 all done, 1 something failed, 2 bad usage, 3 stopped and can be resumed, 4 the object is not what was "
            "sent, 5 the source changed, 6 cluster not reachable or not authorised, 130 interrupted"
        )


INTERRUPTED = 130


def status_of(error: BaseException) -> Status:
    """The exit code for an error, or for the nearest of its causes that has one of its own."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, UsageError):
            return Status.usage
        if isinstance(at, SourceChangedError):
            return Status.source_changed
        if isinstance(at, IntegrityError):
            return Status.integrity
        if isinstance(at, (ConnectFailedError, AuthError, NotAIStoreError)):
            return Status.unreachable
        at = at.__cause__ if isinstance(at, FastMPUError) else None
    return Status.failed
