"""The states of an upload and of its parts, and the moves between them. Data: code only looks moves up, docs are drawn
from it.

A move that is not here is our bug, never the cluster's, and fails loudly (IllegalMoveError). Why the tables are so
strict: AIStore deletes a part that is sent twice and answers 200 to everything (protocol H1-H5). So a part has one way
back to PLANNED, an answer that refused it; and from UNKNOWN only a gap probe leads on.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeVar


class PartState(Enum):
    """Where one part is. The values are how messages put it."""

    PLANNED = "planned"
    SENDING = "in flight"
    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "of unknown fate, since its answer is missing"


class PartEvent(Enum):
    RECALLED_STORED = "an earlier job noted its acknowledgement"
    RECALLED_BEGUN = "an earlier job noted that it began"
    START = "an attempt starts"
    STORED = "answered 2xx"
    REFUSED = "answered with an error, or never left this machine"
    UNANSWERED = "no answer, also not to a half-close"
    FOUND_STORED = "the gap probe counts it as stored"
    FOUND_MISSING = "the gap probe counts it as missing, and its attempt has ended"


class UploadState(Enum):
    """Where an upload is."""

    NEW = "not created yet"
    OPEN = "open"
    COMPLETING = "being completed"
    UNCONFIRMED = "of unknown fate, since complete was not answered"
    COMPLETED = "completed"
    DISCARDING = "being ended, after a complete without an answer"
    ABORTING = "being aborted"
    ABORTED = "aborted"


class UploadEvent(Enum):
    TAKE_OVER = "an earlier job created it"
    CREATE = "create was answered with an upload id"
    COMPLETE = "complete is sent"
    ACCEPTED = "complete was answered 200"
    REFUSED = "AIStore refused it"
    UNANSWERED = "no answer to complete"
    CONFIRMED = "the object proves that complete was done"
    ABORT = "abort is sent"
    GONE = "abort was answered, or the cluster does not know the upload"


PART_MOVES: Final[dict[PartState, dict[PartEvent, PartState]]] = {
    PartState.PLANNED: {
        PartEvent.START: PartState.SENDING,
        PartEvent.RECALLED_STORED: PartState.ACKNOWLEDGED,
        PartEvent.RECALLED_BEGUN: PartState.UNKNOWN,
    },
    PartState.SENDING: {
        PartEvent.STORED: PartState.ACKNOWLEDGED,
        PartEvent.REFUSED: PartState.PLANNED,
        PartEvent.UNANSWERED: PartState.UNKNOWN,
    },
    PartState.UNKNOWN: {
        PartEvent.FOUND_STORED: PartState.ACKNOWLEDGED,
        PartEvent.FOUND_MISSING: PartState.PLANNED,
    },
    PartState.ACKNOWLEDGED: {},
}

UPLOAD_MOVES: Final[dict[UploadState, dict[UploadEvent, UploadState]]] = {
    UploadState.NEW: {
        UploadEvent.CREATE: UploadState.OPEN,
        UploadEvent.TAKE_OVER: UploadState.OPEN,
        UploadEvent.ABORT: UploadState.ABORTING,
    },
    UploadState.OPEN: {
        UploadEvent.COMPLETE: UploadState.COMPLETING,
        UploadEvent.ABORT: UploadState.ABORTING,
    },
    UploadState.COMPLETING: {
        UploadEvent.ACCEPTED: UploadState.COMPLETED,
        UploadEvent.REFUSED: UploadState.OPEN,
        UploadEvent.UNANSWERED: UploadState.UNCONFIRMED,
    },
    # No way back to OPEN: a second complete could meet the first one (protocol H5).
    UploadState.UNCONFIRMED: {
        UploadEvent.CONFIRMED: UploadState.COMPLETED,
        UploadEvent.ABORT: UploadState.DISCARDING,
    },
    UploadState.DISCARDING: {
        UploadEvent.GONE: UploadState.ABORTED,
        UploadEvent.REFUSED: UploadState.UNCONFIRMED,
    },
    UploadState.COMPLETED: {},
    UploadState.ABORTING: {
        UploadEvent.GONE: UploadState.ABORTED,
        UploadEvent.REFUSED: UploadState.OPEN,
    },
    UploadState.ABORTED: {},
}

_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


class IllegalMoveError(AssertionError):
    """A move that no table has: a bug in fastmpu."""


def move(moves: dict[_S, dict[_E, _S]], state: _S, event: _E) -> _S:
    """The state after `event`."""
    try:
        return moves[state][event]
    except KeyError:
        raise IllegalMoveError(f"{type(state).__name__} {state.name} has no move for {event.name}") from None
