"""A multipart upload, step by step, as in AIStore's notebook: create, add parts in any order, complete or abort.

Called from any number of the user's own threads; it starts none. The ledger owns all states, under its lock. AIStore
deletes a part that is sent a second time and still answers 200 to everything (protocol H1), so a part that is
acknowledged, in flight, or of unknown fate is refused here before a byte is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from .._transport import Body, BufferBody, Exchange
from ..errors import (
    AmbiguousPartError,
    AuthError,
    ClusterError,
    FastMPUError,
    NotAIStoreError,
    RedirectRefusedError,
    TransportError,
    UploadLostError,
    UploadNotFoundError,
    UsageError,
)
from .failure import Failure, classify, facts_of
from .ledger import Ledger
from .messages import MAX_PART_NUMBER, ObjectMessages
from .part_nodes import PartNodes
from .states import PartEvent, UploadEvent, UploadState

if TYPE_CHECKING:
    from .endpoint import Endpoint, Node
    from .request import Reply

_UPLOAD_ID = re.compile(r"[!-~]{1,1024}")  # opaque; cloud backends have ids of their own
# What AIStore says to a complete with an empty list (protocol H8). Anything else is not understood, and not guessed at.
_ALL_PARTS = re.compile(r"partial completion is not allowed: requested 0 parts, have (\d+)")
_GAP = re.compile(r"chunk at \((\d+)\) has invalid number \d+ \(count=(\d+)\)")
_NO_PARTS = re.compile(r"no chunks")


@dataclass(frozen=True)
class GapProbe:
    """What the cluster has recorded: `count` parts, `contiguous` of them from part 1 on without a gap."""

    count: int
    contiguous: int


class MultipartUpload:
    """One upload of one object; `Object.multipart_upload()` makes it.

    As a context manager it aborts when the block raises. Leaving the block normally completes nothing: call
    `complete()`.
    """

    def __init__(self, endpoint: Endpoint, messages: ObjectMessages):
        self._endpoint = endpoint
        self._messages = messages
        self._nodes = PartNodes(endpoint)
        self.ledger = Ledger(messages.uri)

    def __repr__(self) -> str:
        return f"<MultipartUpload {self.ledger!r}>"

    @property
    def uri(self) -> str:
        """The object's."""
        return self._messages.uri

    @property
    def upload_id(self) -> str | None:
        """The cluster's id of this upload; None before `create()`."""
        return self.ledger.upload_id

    @property
    def parts(self) -> list[int]:
        """Part numbers in the order in which the cluster acknowledged them."""
        return self.ledger.acknowledged

    @property
    def may_abort(self) -> bool:
        """Whether the upload is open on the cluster, and no `complete` can be under way."""
        return self.ledger.state is UploadState.OPEN

    def create(self) -> MultipartUpload:
        """Open the upload on the cluster. Once; raises UploadStateError the second time."""
        self.ledger.need(UploadState.NEW, "create")
        _, body = self._endpoint.ask(self._messages.create_upload())
        text = body.decode("utf-8", "replace")
        if not _UPLOAD_ID.fullmatch(text):
            raise NotAIStoreError(f"{self.uri}: the answer to create is no upload id: {text[:80]!r}")
        self.ledger.created(text)
        return self

    def take_over(self, upload_id: str, stored: Iterable[int] = (), begun: Iterable[int] = ()) -> MultipartUpload:
        """Go on with an upload that an earlier process created, instead of `create()`. Sends nothing.

        `stored`: parts that the cluster acknowledged then. `begun`: parts that may have been sent; only `probe_gaps`
        tells what became of them, and until then they are not sent, nor is the upload completed.
        """
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UsageError(f"{self.uri}: {upload_id!r} is no upload id")
        self.ledger.taken_over(upload_id, stored, begun)
        return self

    def add_part(self, part_number: int) -> PartWriter:
        """The place for one part's content; nothing is sent yet. ValueError unless 1 <= part_number <= 9,999."""
        if isinstance(part_number, bool) or not isinstance(part_number, int) or not 1 <= part_number <= MAX_PART_NUMBER:
            raise UsageError(f"part number {part_number!r}: it must be an int from 1 to {MAX_PART_NUMBER:,}")
        self.ledger.need(UploadState.OPEN, f"add part {part_number}")
        return PartWriter(self, part_number)

    def put_part(
        self,
        number: int,
        body: Body,
        *,
        headers: Mapping[str, str] | None = None,
        exchange: Exchange | None = None,
        cancel: Any = None,
        transport: httpx.BaseTransport | None = None,
    ) -> Reply:
        """Send one part, once. After an *answered* failure (ClusterError) the number is free again; after a missing
        answer (AmbiguousPartError) it is not, unless `probe_gaps` settles it.

        `exchange` and `cancel` are the transport's: a record of what went out, and something with `is_set()` to stop
        by. `transport` sends it in the client's own stead.
        """
        exchange = exchange or Exchange()
        how: dict[str, Any] = {"exchange": exchange, "cancel": cancel, "transport": transport}
        self.ledger.start(number)
        event = PartEvent.REFUSED
        try:
            message = self._messages.put_part(self._id(), number, headers or {})
            node = self._nodes.node(message, body.length)
            event = PartEvent.UNANSWERED
            try:
                response = self._endpoint.send(node, message, body, body.length, **how)
            except AuthError as error:
                if error.status != 401 or not error.node:
                    raise
                event = PartEvent.REFUSED  # the target has touched nothing (protocol 1.5)
                other = self._nodes.another(message, body.length, node)
                if other is None:
                    raise
                exchange.clear()
                event = PartEvent.UNANSWERED
                response = self._endpoint.send(other, message, body, body.length, **how)
            event = PartEvent.STORED
            return response
        except (ClusterError, TransportError, NotAIStoreError, RedirectRefusedError) as error:
            failure = classify(facts_of(error, of_upload=True, sent=exchange.head_sent))
            if event is PartEvent.UNANSWERED and failure is Failure.UNKNOWN:
                raise self._ambiguous(number, error) from error
            event = PartEvent.REFUSED
            if isinstance(error, UploadNotFoundError):
                raise self._lost(f"cannot put part {number}", error) from error
            raise
        finally:
            if event is PartEvent.UNANSWERED and not exchange.head_sent:
                event = PartEvent.REFUSED  # the source failed, or it was cancelled, before a byte went out
            self.ledger.end(number, event)

    def locate(self, number: int) -> Node:
        """The target, for all parts; asked once, for a part that is not stored, and may be asked again."""
        return self._nodes.node(self._messages.put_part(self._id(), number, {}))

    @property
    def located(self) -> bool:
        """`locate` has nothing to ask, for any part."""
        return self._nodes.shared is not None

    def probe_gaps(self) -> GapProbe | None:
        """Ask what is recorded, by a complete with an empty list, which never succeeds and changes nothing (protocol
        H8). None if the answer is not understood. Parts in flight are not counted: ask when none is.

        Raises UploadLostError if the cluster does not know the upload.
        """
        try:
            self._endpoint.ask(self._messages.complete(self._id(), []))
        except UploadNotFoundError as error:
            raise self._lost("cannot look for gaps", error) from error
        except ClusterError as error:
            if error.status == 400 and error.node:
                if match := _ALL_PARTS.fullmatch(error.message):
                    return GapProbe(int(match[1]), int(match[1]))
                if match := _GAP.fullmatch(error.message):
                    return GapProbe(int(match[2]), int(match[1]))
                if _NO_PARTS.fullmatch(error.message):
                    return GapProbe(0, 0)
        return None

    def complete(self) -> httpx.Response:
        """Make the object of the parts sent, which must be 1..n. 200, or an error that says what is safe to do.

        Sent once: two at a time destroy the object (protocol H5). Raises UploadStateError, before any request, while
        parts are in flight, of unknown fate, or missing.
        """
        numbers = self.ledger.begin_complete()
        event = UploadEvent.UNANSWERED
        try:
            response, body = self._endpoint.ask(self._messages.complete(self._id(), numbers))
            if body:
                status = response.status
                raise NotAIStoreError(f"cannot complete {self.uri}: {status} with a body; AIStore sends none")
            event = UploadEvent.ACCEPTED
            return response.as_httpx()
        except UploadNotFoundError as error:
            event = UploadEvent.REFUSED  # some 404s leave an upload behind that an abort clears away (protocol 5.1)
            what = "cannot complete; an older object of that name may be lost, too (protocol H6)"
            raise self._lost(what, error) from error
        except (ClusterError, TransportError, RedirectRefusedError) as error:
            if classify(facts_of(error, of_upload=True, sent=True)) is not Failure.UNKNOWN:
                event = UploadEvent.REFUSED
            raise
        finally:
            self.ledger.apply(event)

    def abort(self) -> httpx.Response | None:
        """Give the upload up; the cluster deletes its parts. Waits until no part is in flight, since a part that ends
        after the abort would stay on the target's disk. Again, or for an upload the cluster has lost: nothing to do,
        None. UploadStateError after a complete without an answer, with which it could race.
        """
        return self._end_upload() if self.ledger.begin_abort() else None

    def discard(self) -> bool:
        """End an upload whose complete was not answered, by an abort. When this returns, no late complete can make an
        object of it any more. False: the cluster knew the upload no longer, so its complete had ended before.

        It may race with the complete and damage the object that this makes (protocol H4), so it is for a caller that
        then uploads the object again.
        """
        self.ledger.begin_discard()
        return self._end_upload() is not None

    def _end_upload(self) -> httpx.Response | None:
        event = UploadEvent.REFUSED  # so that it can be tried again
        try:
            response, _ = self._endpoint.ask(self._messages.abort(self._id()))
            event = UploadEvent.GONE
            return response.as_httpx()
        except UploadNotFoundError:
            event = UploadEvent.GONE
            return None
        finally:
            self.ledger.apply(event)

    def __enter__(self) -> MultipartUpload:
        return self.create() if self.upload_id is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self.may_abort:
            return
        try:
            self.abort()
        except FastMPUError as failure:
            # The first error is the one to see; this one rides along.
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"upload {self.upload_id} could not be aborted: {failure}")

    def _id(self) -> str:
        assert self.upload_id is not None
        return self.upload_id

    def _lost(self, what: str, error: UploadNotFoundError) -> UploadLostError:
        return UploadLostError(
            f"{self.uri}: {what}: the cluster does not know upload {self.upload_id} any more ({error.message}); "
            "start a new upload",
            **self.ledger.names(),
        )

    def _ambiguous(self, number: int, error: FastMPUError) -> AmbiguousPartError:
        return AmbiguousPartError(
            f"part {number} of {self.uri} was sent, and nobody knows whether it is stored: {error}; it must "
            f"not be sent again under upload {self.upload_id}: abort, and start a new upload",
            part_number=number,
            status=error.status if isinstance(error, ClusterError) else None,
            **self.ledger.names(),
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
        return self._upload.put_part(self.part_number, BufferBody(view)).as_httpx()


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
