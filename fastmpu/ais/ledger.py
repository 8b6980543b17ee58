"""The one owner of an upload's state and of its parts' states.

Any thread; one lock, which is never held during a request. Every change is a move of the tables in states.py; what a
caller asks for at the wrong time is refused with an error that names the state, what we do wrong ourselves is an
IllegalMoveError.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from ..errors import PartRepeatedError, UploadStateError
from .states import PART_MOVES, UPLOAD_MOVES, PartEvent, PartState, UploadEvent, UploadState, move


class Ledger:
    """States of one upload. `uri` is the object's, for messages; `upload_id` is None until `created`."""

    def __init__(self, uri: str):
        self.uri = uri
        self.upload_id: str | None = None
        # Taken as it is, not by the condition: entering that is Python, and an interrupt in the middle would keep it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._senders: dict[int, int] = {}  # part number -> thread of its last attempt
        self._state = UploadState.NEW
        self._parts: dict[int, PartState] = {}
        self._acknowledged: list[int] = []

    def __repr__(self) -> str:
        with self._lock:
            sending = self._numbers(PartState.SENDING)
            unknown = self._numbers(PartState.UNKNOWN)
            doubt = f", {len(unknown)} unknown" if unknown else ""
            parts = f"{len(self._acknowledged)} parts acknowledged, {len(sending)} in flight{doubt}"
            return f"{self.uri} {self._state.value}, id {self.upload_id}, {parts}"

    @property
    def state(self) -> UploadState:
        with self._lock:
            return self._state

    @property
    def acknowledged(self) -> list[int]:
        """Part numbers in the order of their acknowledgement."""
        with self._lock:
            return list(self._acknowledged)

    def unknown(self) -> list[int]:
        """Parts whose fate only a gap probe can tell."""
        with self._lock:
            return self._numbers(PartState.UNKNOWN)

    # --- the upload ---------------------------------------------------------------------------------------------------

    def created(self, upload_id: str) -> None:
        with self._lock:
            self._move(UploadEvent.CREATE)
            self.upload_id = upload_id

    def taken_over(self, upload_id: str, stored: Iterable[int], begun: Iterable[int]) -> None:
        """An upload of an earlier job goes on: these parts are stored, and of those nobody knows."""
        with self._lock:
            self._move(UploadEvent.TAKE_OVER)
            self.upload_id = upload_id
        for number in stored:
            self.end(number, PartEvent.RECALLED_STORED)
        for number in begun:
            self.end(number, PartEvent.RECALLED_BEGUN)

    def need(self, state: UploadState, step: str) -> None:
        """UploadStateError unless the upload is in `state`."""
        with self._lock:
            self._need(state, step)

    def apply(self, event: UploadEvent) -> None:
        with self._lock:
            self._move(event)

    def begin_complete(self) -> list[int]:
        """The numbers to complete with, 1..n. UploadStateError while one is in flight, unknown or missing."""
        with self._lock:
            self._need(UploadState.OPEN, "complete")
            for doubtful in (PartState.SENDING, PartState.UNKNOWN):
                if numbers := self._numbers(doubtful):
                    raise self._wrong(f"parts {_list(numbers)} are {doubtful.value}: do not complete")
            numbers = sorted(self._acknowledged)
            missing = sorted(set(range(1, (numbers or [1])[-1] + 1)) - set(numbers))
            if missing:
                raise self._wrong(f"parts {_list(missing)} are missing; parts must be 1..n without a gap")
            self._move(UploadEvent.COMPLETE)
            return numbers

    def begin_abort(self) -> bool:
        """Whether an abort is to be sent; waits until no part is in flight."""
        with self._lock:
            if self._state in (UploadState.COMPLETED, UploadState.COMPLETING, UploadState.DISCARDING):
                raise self._wrong(f"it is {self._state.value}: it cannot be aborted, delete the object instead")
            if self._state is UploadState.UNCONFIRMED:
                raise self._wrong("complete was sent and not answered: look at the object; aborting could race with it")
            if self._state in (UploadState.ABORTED, UploadState.ABORTING):
                return False
            self._move(UploadEvent.ABORT)
            if self.upload_id is None:
                self._move(UploadEvent.GONE)
                return False
            try:
                for number in self._numbers(PartState.SENDING):
                    # This thread's own attempt has ended: an interrupt came before that could be noted.
                    if self._senders[number] == threading.get_ident():
                        self._parts[number] = move(PART_MOVES, PartState.SENDING, PartEvent.UNANSWERED)
                self._changed.wait_for(lambda: not self._numbers(PartState.SENDING))
            except BaseException:  # Ctrl-C: nothing was sent, and the abort can be tried again
                self._move(UploadEvent.REFUSED)
                raise
            return True

    def begin_discard(self) -> None:
        """An abort after a complete without an answer is to be sent."""
        with self._lock:
            self._need(UploadState.UNCONFIRMED, "discard")
            self._move(UploadEvent.ABORT)

    # --- parts --------------------------------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """An attempt of a part begins. PartRepeatedError, before any byte, unless the part is to be sent (protocol
        H1).
        """
        with self._lock:
            self._need(UploadState.OPEN, f"put part {number}")
            state = self._parts.get(number, PartState.PLANNED)
            if PartEvent.START not in PART_MOVES[state]:
                raise PartRepeatedError(
                    f"part {number} of {self.uri} is {state.value}: AIStore would delete it if it were sent again "
                    "(protocol H1); nothing was sent",
                    part_number=number,
                    **self.names(),
                )
            self._senders[number] = threading.get_ident()
            self._parts[number] = move(PART_MOVES, state, PartEvent.START)

    def end(self, number: int, event: PartEvent) -> None:
        """An attempt has ended, or a probe has told how."""
        with self._lock:
            self._parts[number] = move(PART_MOVES, self._parts.get(number, PartState.PLANNED), event)
            if self._parts[number] is PartState.ACKNOWLEDGED:
                self._acknowledged.append(number)
            self._changed.notify_all()

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _numbers(self, state: PartState) -> list[int]:
        return sorted(number for number, its in self._parts.items() if its is state)

    def _move(self, event: UploadEvent) -> None:
        self._state = move(UPLOAD_MOVES, self._state, event)

    def _need(self, state: UploadState, step: str) -> None:
        if self._state is not state:
            raise self._wrong(f"cannot {step}, it is {self._state.value}")

    # --- messages -----------------------------------------------------------------------------------------------------

    def names(self) -> dict[str, Any]:
        """What every error about this upload carries."""
        return {"upload_id": self.upload_id, "object_name": self.uri}

    def _wrong(self, what: str) -> UploadStateError:
        return UploadStateError(f"upload {self.upload_id} of {self.uri}: {what}", **self.names())


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
