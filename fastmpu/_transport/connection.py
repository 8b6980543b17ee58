"""One exchange after another on one stream. Heads are made and read in request_head.py and head.py; body bytes pass all
of that by.

A connection belongs to one thread at a time: to the one that runs the exchange until the answer is read to its end,
then to the pool. It has no lock. The pool, or whoever discards it, closes it.

An exchange goes on as follows; what comes first on the right ends it (H3 is protocol.md's hazard 3).

    send head and body ──▶ wait for the head of the answer ──▶ read its body ──▶ reusable, or not
      │ would block: also read; a final answer ends sending
      │ broken: read; an answer decides, else the break is the error
      │ cancelled, source failed, write clock ──▶ fence: half-close, read on for `Limits.fence` seconds
                                   read clock ──▶ fence
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final, TypeVar

import h11

from .body import READ_SIZE, Body, FileRange, WithheldBody, too_long, too_short
from .connect import Origin
from .exchange import Cancelled, Exchange, Limits, Phase, Stalled, wait_until
from .head import AnswerHead, read_head, take_head
from .progress import ProgressClock
from .request_head import RequestHead
from .sealed import SealedFields
from .stream import READABLE, NetworkStream

INFORMATIONAL_LIMIT: Final = 8
_HEAD_READ_SIZE: Final = 64 * 1024
_WITH_HEAD: Final = 64 * 1024  # bytes of a body; what does not fit into one segment of loopback
_BODY_READ_SIZE: Final = 256 * 1024
_T = TypeVar("_T")


class Connection:
    """A stream and the exchange on it. `reusable` says whether another one may follow."""

    def __init__(self, stream: NetworkStream, origin: Origin):
        self.origin = origin
        self.phase = Phase.SEND
        self.idle_since = 0.0
        """Monotonic seconds; the pool's."""
        self._stream = stream
        self._served = 0
        self._buffer = bytearray()
        self._begin(Limits(), Exchange(), SealedFields())

    def _begin(self, limits: Limits, record: Exchange, sealed: SealedFields) -> None:
        self._record = record
        self._sealed = sealed
        self._progress = None if limits.progress is None else ProgressClock(*limits.progress)
        self._moving_until = -math.inf
        self._withheld = False
        self._write_seconds = limits.write
        self._read_seconds = limits.read
        self._fence_seconds = limits.fence
        self._read_until = math.inf
        self._cancel = limits.cancel
        self._searched = 0
        self._informational = 0
        self._method = b""
        self._response: AnswerHead | None = None
        self._body_left: int | None = 0
        self._chunks: h11.Connection | None = None
        self._last = False  # either side said that the connection ends with this exchange (RFC 9112, section 9.3)
        self._whole = False
        self._clean = False

    @property
    def reusable(self) -> bool:
        """The request was sent whole, the answer read whole, nothing is left over, and both sides wish to go on."""
        return self._whole and self._clean and not self._buffer and not self._record.half_closed and not self._last

    def is_readable(self) -> bool:
        """On an idle connection: the server has closed it, or sent what nobody asked for."""
        return self._stream.is_readable()

    def close(self) -> None:
        """Closes the stream. May be called again."""
        self._clean = False
        self._stream.close()

    def __repr__(self) -> str:
        state = "idle" if self.reusable else self.phase.value
        return f"<Connection {self.origin} {state}, {self._served} requests>"

    # The exchange

    def exchange(
        self,
        head: RequestHead,
        body: Body | Iterable[bytes],
        limits: Limits,
        record: Exchange,
        sealed: SealedFields | None = None,
    ) -> AnswerHead:
        """Sends a request and reads the head of its final answer; `read_body` gives the rest.

        `sealed`: the fields that `head` must not show. A body that is no `Body` is sent in chunks, as `head` must say.
        Raises `Stalled` for a clock, `Cancelled`, h11's errors, OSError for the network, and with `phase` BODY whatever
        the body raised. The connection is to be closed after any of them. `record` is kept up to date throughout.
        """
        self._begin(limits, record, sealed or SealedFields())
        self._method, self._last = head.method, head.last
        record.reused = self._served > 0
        self._served += 1
        self.phase = Phase.SEND
        try:
            try:
                self._send(head, body)
            except OSError as error:
                if self.phase is Phase.BODY:
                    raise
                self._answer_instead_of(error)
            self.phase = Phase.WAIT
            record.last_sent = monotonic()
            self._moving_until = -math.inf
            while self._response is None:
                self._receive_head()
        except Stalled:
            if not self._fence():
                raise
        except (Cancelled, KeyboardInterrupt):
            self._fence()
            raise
        assert self._response is not None
        self._start_body(self._response)
        return self._response

    def _send(self, head: RequestHead, body: Body | Iterable[bytes]) -> None:
        """Sends it all, or stops early because `self._response` came."""
        self._withheld = isinstance(body, WithheldBody)
        with self._sealed.joined_to(head.data) as opening:
            # A small body shares the head's packet. A large one comes later: the server can prepare for it meanwhile,
            # which saves CPU on both sides (docs/performance.md).
            if isinstance(body, Body) and not self._withheld and 0 < body.length <= _WITH_HEAD:
                going = self._send_pieces(body, opening)
            else:
                if not self._send_view(opening) or self._withheld:
                    return
                going = self._send_pieces(body) if isinstance(body, Body) else self._send_chunks(body)
        self._clean = going

    def _send_pieces(self, body: Body, opening: memoryview | None = None) -> bool:
        """With `opening` before the first of them. False: the answer came first."""
        left = body.length
        pieces = body.pieces(not self._stream.can_send_file)
        try:
            while True:
                piece = self._next(pieces)
                if piece is None:
                    break
                size = piece.length if isinstance(piece, FileRange) else piece.nbytes
                if size > left:
                    raise self._source_failed(too_long(body.length))
                if isinstance(piece, FileRange):
                    head_sent = opening is None or self._send_view(opening, more=True)
                    going = head_sent and self._send_range(piece, body, left)
                elif opening is None:
                    going = self._send_view(piece, counted=True)
                else:
                    with memoryview(b"".join((opening, piece))) as both:
                        going = self._send_view(both, counted=True, framing=opening.nbytes)
                opening = None
                if not going:
                    return False
                left -= size
        finally:
            self._end(pieces)
        if left:
            raise self._source_failed(too_short(body.length, left))
        return True

    def _send_chunks(self, stream: Iterable[bytes]) -> bool:
        """False: the answer came first. Chunk framing: RFC 9112, section 7.1."""
        items = iter(stream)
        try:
            while True:
                item = self._next(items)
                if item is None:
                    return self._send_bytes(b"0\r\n\r\n")
                if not item:  # would be the last chunk
                    continue
                with memoryview(item) as view:
                    going = (
                        self._send_bytes(b"%x\r\n" % view.nbytes, more=True)
                        and self._send_view(view, counted=True, more=True)
                        and self._send_bytes(b"\r\n")
                    )
                if not going:
                    return False
        finally:
            self._end(items)

    def _send_bytes(self, data: bytes, more: bool = False) -> bool:
        """Framing, which is not counted. False: the answer came first."""
        with memoryview(data) as view:
            return self._send_view(view, more)

    def _send_view(self, view: memoryview, more: bool = False, counted: bool = False, framing: int = 0) -> bool:
        """False: the answer came first. No part of `view` is held on to afterwards, so that its map can be closed. The
        first `framing` bytes are not counted in any case."""
        size = view.nbytes
        sent = 0
        blocked_until: float | None = None
        with view.cast("B") as octets:
            while sent < size:
                self._check_cancel()
                with octets[sent:] as rest:
                    taken = self._stream.send(rest, more)
                if taken is None:
                    blocked_until = blocked_until or monotonic() + self._write_seconds
                    if not self._wait_to_send(blocked_until):
                        return False
                    continue
                blocked_until = None
                self._record.head_sent = True
                if counted:
                    self._record.handed += max(0, sent + taken - framing) - max(0, sent - framing)
                sent += taken
        return True

    def _send_range(self, piece: FileRange, body: Body, body_left: int) -> bool:
        """False: the answer came first."""
        fd, offset, left = piece
        blocked_until: float | None = None
        while left:
            self._check_cancel()
            try:
                taken = self._stream.send_file(fd, offset, left)
            except (ConnectionError, TimeoutError):
                raise
            except OSError:
                # The file cannot be read, or cannot be sent that way: reading it here tells, and may do.
                taken = self._send_read(fd, offset, min(left, READ_SIZE))
            if taken is not None:
                if taken == 0:
                    raise self._source_failed(too_short(body_left, left))
                offset += taken
                left -= taken
                self._record.handed += taken
                if not left:
                    break
                blocked_until = None
            # Less than was offered: the kernel is full, or, if it is not, says so at once.
            if self._work_of(body):
                continue
            blocked_until = blocked_until or monotonic() + self._write_seconds
            if not self._wait_to_send(blocked_until):
                return False
        return True

    def _send_read(self, fd: int, offset: int, count: int) -> int | None:
        try:
            data = os.pread(fd, count, offset)
        except OSError as error:
            raise self._source_failed(error) from None
        return self._stream.send(memoryview(data)) if data else 0

    def _wait_to_send(self, until: float) -> bool:
        """Waits for room, reading meanwhile. False: the final answer came."""
        if self._wait_moving(until, self._write_seconds, self._poll_both) & READABLE:
            data = self._stream.receive(_HEAD_READ_SIZE)
            if data is not None:
                self._add(data)
        return self._response is None

    def _wait_moving(self, until: float, seconds: float, poll: Callable[[float], int]) -> int:
        """`wait_until`, as long as the peer takes enough of what the kernel has. Any progress gives `seconds` more:
        room in the kernel comes in large steps, and a slow network is not silent between two of them."""
        while self._progress is not None:
            clock, now = self._progress, monotonic()
            # The clock stands still while the source is read, or a bandwidth limit is waited for.
            paused = self._record.source_seconds
            if now - paused >= clock.due:
                # The first look is what later ones compare with, so it need not know what has moved by then. Mostly
                # there is no second one, and nothing was asked of the kernel.
                waiting = self._record.handed if clock.is_new else self._stream.unacknowledged()
                if clock.look(now - paused, self._record.handed - waiting):
                    self._moving_until = now + seconds
                if not waiting and self.phase is Phase.WAIT:
                    self._progress = None  # all is with the peer: from now on only the answer counts
            until = max(until, self._moving_until)
            try:
                return wait_until(min(until, clock.due + paused), self._cancel, poll)
            except Stalled:
                if until <= clock.due + paused:
                    raise
        return wait_until(until, self._cancel, poll)

    # When it does not go to plan

    def _next(self, pieces: Iterator[_T]) -> _T | None:
        return self._of_the_body(lambda: next(pieces, None))

    def _work_of(self, body: Body) -> bool:
        return self._of_the_body(body.while_blocked)

    def _of_the_body(self, call: Callable[[], _T]) -> _T:
        began = monotonic()
        try:
            return call()
        except Exception as error:
            self._source_failed(error)
            raise
        finally:
            self._record.source_seconds += monotonic() - began

    def _end(self, pieces: Iterator[object]) -> None:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()

    def _source_failed(self, error: _T) -> _T:
        """The body cannot go on: fence, for the server holds half of it. Raise the error that comes back."""
        self._fence()
        self.phase = Phase.BODY
        return error

    def _check_cancel(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("cancelled on request")

    def _answer_instead_of(self, broken: OSError) -> None:
        """Sending broke. A peer that refuses a request answers, then closes: an answer that got through decides."""
        try:
            while self._response is None:
                self._receive_head()
            return
        except (OSError, Stalled, h11.RemoteProtocolError):
            pass  # and is no context of the other: it may quote what the server sent back to us
        raise broken

    def _fence(self) -> bool:
        """Ends our half and reads on: only an answer proves that the server is done with the request (protocol H3).

        True when there is one; then its body has to come within the fence as well.
        """
        record = self._record
        seconds, self._fence_seconds = self._fence_seconds, 0.0  # once
        if not record.head_sent or seconds <= 0:
            return False
        self._cancel = None
        self._progress = None
        self._read_seconds = math.inf
        self._read_until = monotonic() + seconds
        try:
            self._stream.half_close()
            record.half_closed = True
        except OSError:
            pass  # the connection is gone; an answer may have come before
        try:
            while self._response is None:
                self._receive_head()
        except (OSError, Stalled, h11.RemoteProtocolError):
            return False
        return True

    # The answer

    def _receive_head(self) -> None:
        self._add(self._receive(_HEAD_READ_SIZE))

    def _receive(self, count: int) -> bytes:
        """The next bytes of the answer, empty at its end. Raises `Stalled` when the read clock runs out."""
        until = min(monotonic() + self._read_seconds, self._read_until)
        while True:
            if self.phase is Phase.WAIT:
                self._wait_moving(until, self._read_seconds, self._poll_read)
            else:
                wait_until(until, self._cancel, self._poll_read)
            data = self._stream.receive(count)
            if data is not None:
                return data

    def _add(self, data: bytes) -> None:
        """Takes in bytes that arrived before the final head was whole."""
        if not data:
            where = "in the middle of its answer's head" if self._buffer else "without an answer"
            raise h11.RemoteProtocolError(f"the server closed the connection {where}")
        self._buffer += data
        while self._response is None:
            head = take_head(self._buffer, self._searched)
            if head is None:
                self._searched = len(self._buffer)
                return
            self._searched = 0
            answer = read_head(head, self._method)
            if answer.status >= 200:
                self._take_response(answer)
                return
            self._informational += 1
            if self._informational > INFORMATIONAL_LIMIT:
                raise h11.RemoteProtocolError(f"more than {INFORMATIONAL_LIMIT} informational answers")
            if self._withheld and answer.status == 100:
                raise h11.RemoteProtocolError("the server wants the body, where it was to say where the body goes")
            if not self._buffer:
                return

    def _take_response(self, response: AnswerHead) -> None:
        self._record.answered = True
        self._record.answered_at = monotonic()
        self._record.status = response.status
        if response.encoding:
            raise h11.RemoteProtocolError(
                f"the answer is encoded, though identity was asked for: {response.encoding!r}"
            )
        self._response = response
        self._last = self._last or response.last

    def _start_body(self, response: AnswerHead) -> None:
        """How it ends: RFC 9112, section 6.3."""
        self._body_left, self._chunks = response.length, response.reader
        if self._method == b"HEAD" or response.status in (204, 304):
            self._body_left, self._chunks = 0, None
        if self._chunks is not None:
            if self._buffer:
                self._chunks.receive_data(bytes(self._buffer))
                self._buffer.clear()
        elif self._body_left is None:
            self._clean = False
        self._whole = self._body_left == 0

    def hide(self, text: str) -> str:
        """`text`, which the server may have a part in, without what the request's sealed fields say."""
        return self._sealed.hide(text)

    def body_at_hand(self) -> bytes | None:
        """The answer's body if it has arrived already; the exchange is then over. Else None: use `read_body`."""
        left = self._body_left
        if left is None or len(self._buffer) < left:
            return None
        content = bytes(self._buffer[:left])
        del self._buffer[:left]
        self._body_left = 0
        self._whole = True
        return content

    def read_body(self) -> Iterator[bytes]:
        """The answer's body as it comes. Raises as `exchange` does; the connection is then to be closed."""
        self.phase = Phase.READ
        if self._chunks is not None:
            yield from self._read_chunks(self._chunks)
            return
        while not self._whole:
            left = self._body_left
            if self._buffer:
                data = bytes(self._buffer)
                self._buffer.clear()
            else:
                data = self._receive(_BODY_READ_SIZE if left is None else min(left, _BODY_READ_SIZE))
            if left is not None:
                if not data:
                    raise h11.RemoteProtocolError(f"the answer ended {left} bytes before its Content-Length")
                self._body_left = left - len(data)
                self._whole = self._body_left == 0
            elif not data:
                self._whole = True
                return
            yield data
            del data  # an error that comes after it does not show it

    def _read_chunks(self, chunks: h11.Connection) -> Iterator[bytes]:
        while True:
            event = chunks.next_event()
            if event is h11.NEED_DATA:
                chunks.receive_data(self._receive(_BODY_READ_SIZE))
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
                del event
            else:
                # Nobody asked for trailers, and h11 reads them leniently: whatever it was, it ends here.
                trailers = isinstance(event, h11.EndOfMessage) and bool(event.headers)
                self._clean = self._clean and not trailers and not chunks.trailing_data[0]
                self._whole = True
                return

    def _poll_read(self, seconds: float) -> int:
        return self._stream.wait(True, False, seconds)

    def _poll_both(self, seconds: float) -> int:
        return self._stream.wait(True, True, seconds)
