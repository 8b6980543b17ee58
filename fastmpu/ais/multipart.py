"""A multipart upload, step by step, as in AIStore's notebook: create, add parts in any order, complete or abort.

Called from any number of the user's own threads; it starts none. `_changed`, a condition, guards the parts' states; it
is never held during a request. AIStore deletes a part that is sent a second time and still answers 200 to everything
(protocol H1), so a part that is stored, on its way, or of unknown fate is refused here before a byte is sent.
"""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from .._transport import Body, BufferBody, Exchange
from ..errors import (
    AmbiguousPartError,
    ClusterError,
    FastMPUError,
    NotAIStoreError,
    PartRepeatedError,
    RedirectRefusedError,
    TransportError,
    UploadLostError,
    UploadNotFoundError,
    UploadStateError,
    UsageError,
)
from .messages import MAX_PART_NUMBER, ObjectMessages

if TYPE_CHECKING:
    from .endpoint import Endpoint, Node

_UPLOAD_ID = re.compile(r"[!-~]{1,1024}")  # opaque; cloud backends have ids of their own


class _Part(enum.Enum):
    SENDING = "in flight"
    STORED = "acknowledged"
    UNKNOWN = "of unknown fate, since its answer is missing"


class _Upload(enum.Enum):
    NEW = "not created yet"
    OPEN = "open"
    COMPLETING = "being completed"
    COMPLETED = "completed"
    ABORTED = "aborted"


class MultipartUpload:
    """One upload of one object; `Object.multipart_upload()` makes it.

    As a context manager it aborts when the block raises. Leaving the block normally completes nothing: call
    `complete()`.
    """

    def __init__(self, endpoint: Endpoint, messages: ObjectMessages):
        self._endpoint = endpoint
        self._messages = messages
        self._changed = threading.Condition()
        self._state = _Upload.NEW
        self._parts: dict[int, _Part] = {}
        self._stored: list[int] = []
        self._node: Node | None = None
        self._id: str | None = None

    def __repr__(self) -> str:
        with self._changed:
            sending = sum(part is _Part.SENDING for part in self._parts.values())
            counts = f"{len(self._stored)} parts stored, {sending} in flight"
        return f"<MultipartUpload {self._messages.uri} {self._state.value}, id {self._id}, {counts}>"

    @property
    def uri(self) -> str:
        """The object's."""
        return self._messages.uri

    @property
    def upload_id(self) -> str | None:
        """The cluster's id of this upload; None before `create()`."""
        return self._id

    @property
    def may_abort(self) -> bool:
        """Whether the upload is open on the cluster, and no `complete` can be under way."""
        with self._changed:
            return self._state is _Upload.OPEN

    @property
    def parts(self) -> list[int]:
        """Part numbers in the order in which the cluster acknowledged them."""
        with self._changed:
            return list(self._stored)

    def create(self) -> MultipartUpload:
        """Open the upload on the cluster. Once; raises UploadStateError the second time."""
        self._move({_Upload.NEW}, _Upload.OPEN, "create")
        try:
            _, body = self._endpoint.ask(self._messages.create_upload())
            text = body.decode("utf-8", "replace")
            if not _UPLOAD_ID.fullmatch(text):
                raise NotAIStoreError(f"{self._messages.uri}: the answer to create is no upload id: {text[:80]!r}")
        except BaseException:
            self._move({_Upload.OPEN}, _Upload.NEW, "create")
            raise
        self._id = text
        return self

    def add_part(self, part_number: int) -> PartWriter:
        """The place for one part's content; nothing is sent yet. ValueError unless 1 <= part_number <= 9,999."""
        if isinstance(part_number, bool) or not isinstance(part_number, int) or not 1 <= part_number <= MAX_PART_NUMBER:
            raise UsageError(f"part number {part_number!r}: it must be an int from 1 to {MAX_PART_NUMBER:,}")
        self._need_open(f"add part {part_number}")
        return PartWriter(self, part_number)

    def put_part(
        self,
        number: int,
        body: Body,
        *,
        headers: Mapping[str, str] | None = None,
        exchange: Exchange | None = None,
        cancel: Any = None,
    ) -> httpx.Response:
        """Send one part, once. After an *answered* failure (ClusterError) the number is free again; after a missing
        answer (AmbiguousPartError) it is not, and the upload can only be aborted.

        `exchange` and `cancel` are the transport's: a record of what went out, and something with `is_set()` to stop
        by.
        """
        exchange = exchange or Exchange()
        self._begin(number)
        fate: _Part | None = None
        try:
            message = self._messages.put_part(self._uploaded_id(), number, headers or {})
            # A second thread may ask for a target, too: harmless, and simpler than waiting for the first.
            node = self._node = self._node or self._endpoint.locate(message)
            fate = _Part.UNKNOWN
            response = self._endpoint.send(node, message, body, body.length, exchange=exchange, cancel=cancel)
            fate = _Part.STORED
            return response
        except (ClusterError, TransportError, NotAIStoreError, RedirectRefusedError) as error:
            # Only AIStore's own answer proves that its handler is over; a gateway's does not (reliability 2B).
            if fate is None or not exchange.head_sent or (isinstance(error, ClusterError) and error.node):
                fate = None
                if isinstance(error, UploadNotFoundError):
                    raise self._lost(f"cannot put part {number}", error) from error
                raise
            raise self._ambiguous(number, error) from error
        finally:
            if not exchange.head_sent and fate is _Part.UNKNOWN:
                fate = None
            self._end(number, fate)

    def complete(self) -> httpx.Response:
        """Make the object of the parts sent, which must be 1..n. 200, or an error that says what is safe to do.

        Sent once: two at a time destroy the object (protocol H5). Raises UploadStateError, before any request, while
        parts are in flight, of unknown fate, or missing.
        """
        with self._changed:
            self._need(_Upload.OPEN, "complete")
            numbers = sorted(self._stored)
            unsure = sorted(number for number, part in self._parts.items() if part is not _Part.STORED)
            if unsure:
                raise self._wrong(f"parts {_list(unsure)} are {self._parts[unsure[0]].value}: do not complete")
            if not numbers or numbers[-1] != len(numbers):
                missing = sorted(set(range(1, (numbers or [1])[-1] + 1)) - set(numbers))
                raise self._wrong(f"parts {_list(missing)} are missing; parts must be 1..n without a gap")
            self._state = _Upload.COMPLETING
        try:
            response, body = self._endpoint.ask(self._messages.complete(self._uploaded_id(), numbers))
        except UploadNotFoundError as error:
            self._reopen()  # some 404s leave an upload behind that an abort clears away (protocol 5.1)
            raise self._lost(
                "cannot complete; an older object of that name may be lost, too (protocol H6)", error
            ) from error
        except ClusterError as error:
            if error.node:
                self._reopen()
            raise
        if body:
            raise NotAIStoreError(
                f"cannot complete {self._messages.uri}: {response.status_code} with a body; AIStore sends none"
            )
        self._move({_Upload.COMPLETING}, _Upload.COMPLETED, "complete")
        return response

    def abort(self) -> httpx.Response | None:
        """Give the upload up; the cluster deletes its parts. Waits until no part is in flight, since a part that ends
        after the abort would stay on the target's disk. Again, or for an upload the cluster has lost: nothing to do,
        None.
        """
        with self._changed:
            if self._state in (_Upload.NEW, _Upload.ABORTED):
                self._state = _Upload.ABORTED
                return None
            if self._state is _Upload.COMPLETED:
                raise self._wrong("it is completed: delete the object instead")
            if self._state is _Upload.COMPLETING:
                raise self._wrong("complete was sent and not answered: look at the object; aborting could race with it")
            self._state = _Upload.ABORTED
            self._changed.wait_for(lambda: _Part.SENDING not in self._parts.values())
        try:
            response, _ = self._endpoint.ask(self._messages.abort(self._uploaded_id()))
        except UploadNotFoundError:
            return None
        except BaseException:
            with self._changed:
                self._state = _Upload.OPEN  # so that the abort can be tried again
            raise
        return response

    def __enter__(self) -> MultipartUpload:
        return self.create() if self._id is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self.may_abort:
            return
        try:
            self.abort()
        except FastMPUError as failure:
            # The first error is the one to see; this one rides along.
            _add_note(error, f"upload {self._id} could not be aborted: {failure}")

    # --- states -------------------------------------------------------------------------------------------------------

    def _uploaded_id(self) -> str:
        assert self._id is not None
        return self._id

    def _names(self) -> dict[str, Any]:
        return {"upload_id": self._id, "object_name": self._messages.uri}

    def _wrong(self, what: str) -> UploadStateError:
        return UploadStateError(f"upload {self._id} of {self._messages.uri}: {what}", **self._names())

    def _need(self, state: _Upload, step: str) -> None:
        if self._state is not state:
            raise self._wrong(f"cannot {step}, it is {self._state.value}")

    def _need_open(self, step: str) -> None:
        with self._changed:
            self._need(_Upload.OPEN, step)

    def _move(self, allowed: set[_Upload], state: _Upload, step: str) -> None:
        with self._changed:
            if self._state not in allowed:
                raise self._wrong(f"cannot {step}, it is {self._state.value}")
            self._state = state

    def _reopen(self) -> None:
        """After a `complete` that AIStore itself has refused: its handler is over."""
        self._move({_Upload.COMPLETING}, _Upload.OPEN, "reopen")

    def _begin(self, number: int) -> None:
        with self._changed:
            self._need(_Upload.OPEN, f"put part {number}")
            known = self._parts.get(number)
            if known is not None:
                raise PartRepeatedError(
                    f"part {number} of {self._messages.uri} is {known.value}: AIStore would delete it if it were sent "
                    "again (protocol H1); nothing was sent",
                    part_number=number,
                    **self._names(),
                )
            self._parts[number] = _Part.SENDING

    def _end(self, number: int, fate: _Part | None) -> None:
        with self._changed:
            if fate is None:
                del self._parts[number]
            else:
                self._parts[number] = fate
                if fate is _Part.STORED:
                    self._stored.append(number)
            self._changed.notify_all()

    def _lost(self, what: str, error: UploadNotFoundError) -> UploadLostError:
        return UploadLostError(
            f"{self._messages.uri}: {what}: the cluster does not know upload {self._id} any more ({error.message}); "
            "start a new upload",
            **self._names(),
        )

    def _ambiguous(self, number: int, error: FastMPUError) -> AmbiguousPartError:
        return AmbiguousPartError(
            f"part {number} of {self._messages.uri} was sent, and nobody knows whether it is stored: {error}; it must "
            f"not be sent again under upload {self._id}: abort, and start a new upload",
            part_number=number,
            status=error.status if isinstance(error, ClusterError) else None,
            **self._names(),
        )


class PartWriter:
    """One part of an upload, still without content."""

    def __init__(self, upload: MultipartUpload, number: int):
        self._upload = upload
        self.part_number = number

    def __repr__(self) -> str:
        return f"<PartWriter {self.part_number} of {self._upload!r}>"

    def put_content(self, data: Any) -> httpx.Response:
        """Send `data` (any C-contiguous buffer, at least 1 byte, not copied) as this part and wait for the answer.

        Raises PartRepeatedError, before a byte is sent, where the part is stored or on its way; AmbiguousPartError
        where the answer stayed away; a ClusterError where AIStore said no, after which the part may be put again.
        """
        view = flat_view(data, f"part {self.part_number}")
        if not len(view):
            raise UsageError(
                f"part {self.part_number} is empty: AIStore takes parts of 1 byte and more; put empty objects whole"
            )
        return self._upload.put_part(self.part_number, BufferBody(view))


def flat_view(data: Any, what: str) -> memoryview:
    """`data` as bytes in a row, uncopied; UsageError if it has no such form."""
    if isinstance(data, str):
        raise UsageError(f"{what}: text has no bytes of its own; encode it first, as in text.encode()")
    try:
        view = memoryview(data)
    except TypeError:
        raise UsageError(
            f"{what}: a {type(data).__name__} is not a buffer; give bytes, an array or a memoryview"
        ) from None
    if not view.c_contiguous:
        raise UsageError(f"{what}: the buffer is not C-contiguous; copy it first, as in numpy.ascontiguousarray(data)")
    return view.cast("B")


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _add_note(error: BaseException, note: str) -> None:
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(note)
