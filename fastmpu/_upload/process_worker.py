"""A worker process of `engine="process"`: sends parts of one open file, and decides nothing.

Threads: the main one sets up, then waits for the parent's end, which is EOF on the control socket, and meanwhile gives
signs of life: of a process that was stopped its parent would hear nothing, not even its end. Each lane has a thread,
which does one ticket at a time. "fastmpu-lease" lets writers in. Shared by lanes: the source and the wire, which say
how in their own modules.

Owner of everything here is the process: it ends by `os._exit`, and the kernel closes what is open. It reads the file by
an open of its own, under a lease of its own where the parent has one: then nobody has to tell anybody when a writer
comes. Ctrl-C and SIGTERM go to the whole group; the parent decides what they mean, so they are ignored here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Final, NoReturn

from .._source import Source
from .._source.mapped_file import File
from .._transport import Answer, AnswerHead, ConnectionPool, Connector, Exchange, Limits, Wire, WireRequest
from ..errors import SourceChangedError, UsageError
from .bandwidth import Bandwidth, pace_of
from .hash_range import hash_range
from .lease_guard import LeaseGuard
from .part_body import PartBody
from .process_messages import (
    BEAT,
    BEAT_SECONDS,
    CANCEL,
    CELLS,
    FDS_AT_ONCE,
    HANDED,
    RECORDED,
    TAKEN,
    Channel,
    Failure,
    Hash,
    Outcome,
    Send,
    Setup,
    Ticket,
)

PARENTS_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG: Final = 1


class SharedExchange(Exchange):
    """Its `handed` is seen by the parent while it grows."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview):
        self._cells = cells
        super().__init__()

    @property
    def handed(self) -> int:
        return int(self._cells[HANDED])

    @handed.setter
    def handed(self, count: int) -> None:
        self._cells[HANDED] = count


class SharedFlag:
    """The parent's wish to stop."""

    def __init__(self, cells: memoryview):
        self._cells = cells

    def is_set(self) -> bool:
        return bool(self._cells[CANCEL])


class Lane:
    """One request after the other, in a thread of its own."""

    def __init__(
        self,
        channel: Channel,
        cells: memoryview,
        source: Source,
        wire: Wire | Failure,
        bandwidth: Bandwidth | None,
        longest: int,
    ):
        self._channel = channel
        self._cells = cells
        self._source = source
        self._wire = wire
        self._bandwidth = bandwidth
        self._longest = longest

    def serve(self) -> None:
        """Until the parent hangs up. A bug in here ends the process: a lane that does not answer would be a hang."""
        try:
            while True:
                ticket = self._channel.receive()
                self._cells[TAKEN] = 1
                self._channel.send(self._outcome(ticket))
                del ticket
        except EOFError:
            return
        except BaseException:  # noqa: BLE001 - the parent sees the end of the process, and what was under way
            traceback.print_exc()
            os._exit(1)

    def _outcome(self, ticket: Ticket) -> Outcome:
        if isinstance(ticket, Hash):
            try:
                return Outcome(hash_range(self._source, ticket.part, ticket.kind))
            except Exception as error:  # noqa: BLE001 - goes home
                return Outcome(None, failure=Failure.of(error))
        return self._send(ticket)

    def _send(self, ticket: Send) -> Outcome:
        record = SharedExchange(self._cells)
        cancel = SharedFlag(self._cells)
        body = PartBody(self._source, ticket.part, ticket.checksums, pace=pace_of(self._bandwidth, cancel))
        head: AnswerHead | None = None
        content, failure = b"", None
        try:
            if isinstance(self._wire, Failure):
                raise self._wire.error()
            if ticket.part.offset + ticket.part.length > self._source.size:
                raise SourceChangedError(f"{self._source.name!r} changed while it was uploaded: it was truncated")
            request = WireRequest(ticket.origin, ticket.method, ticket.target, ticket.fields, body)
            answer = self._wire.send(request, Limits.of({**ticket.limits, "cancel": cancel}), record)
            head = answer.head._replace(reader=None)
            content = b"".join(_some(answer, self._longest))
        except Exception as error:  # noqa: BLE001 - goes home
            failure = Failure.of(error)
        recorded = {name: getattr(record, name) for name in RECORDED}
        return Outcome(body.digests, recorded, head, content, failure, body.spent)


def _some(answer: Answer, longest: int) -> Iterator[bytes]:
    """The answer's body, or so much of it that the parent sees that it is too large."""
    taken = 0
    try:
        for piece in answer.read():
            yield piece
            taken += len(piece)
            if taken > longest:
                return
    finally:
        answer.close()


def main(control: socket.socket) -> NoReturn:
    """`control`: the parent's, which has just told us where to import from."""
    try:
        for number in PARENTS_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)  # the parent has blocked them for our start
        if sys.platform == "linux":
            # A second belt: EOF does not come if somebody else has inherited the parent's end of the socket.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        channel = Channel(control)
        setup: Setup = channel.receive()
        memory, file, *others = _descriptors(control, 2 + (setup.rate is not None) + len(setup.cells))
        if os.getppid() != setup.parent:
            os._exit(0)  # it died before it could be noticed
        cells = memoryview(mmap.mmap(memory, 0)).cast("Q")
        source = _source(file, setup)
        wire = _wire(setup)
        bandwidth = None if setup.rate is None else Bandwidth(setup.rate, others.pop(0))
        LeaseGuard(source).__enter__()
        for lane, first in zip(others, setup.cells, strict=True):
            own = cells[first : first + CELLS]
            serving = Lane(Channel(socket.socket(fileno=lane)), own, source, wire, bandwidth, setup.longest)
            threading.Thread(target=serving.serve, name=f"fastmpu-lane-{first // CELLS}", daemon=True).start()
        _beat(cells[setup.cells[0] + BEAT :], control)
    except EOFError:
        pass
    except BaseException:  # noqa: BLE001 - nobody above could do more
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _beat(cell: memoryview, control: socket.socket) -> None:
    """Until the parent's end: nothing else is said here any more."""
    control.settimeout(BEAT_SECONDS)
    while True:
        cell[0] += 1
        try:
            control.recv(1)
            return
        except TimeoutError:
            continue


def _descriptors(control: socket.socket, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        data, fds, _, _ = socket.recv_fds(control, 1, FDS_AT_ONCE)
        if not data:
            raise EOFError
        found += fds
    return found


def _source(inherited: int, setup: Setup) -> Source:
    """The same file, opened once more where it is to be mapped: a lease belongs to an open, and the parent would let go
    of its own while a map of ours is in use."""
    if setup.mapped:
        try:
            own = os.open(f"/proc/self/fd/{inherited}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            mapped = File(own, setup.name, read="mmap")
            os.close(inherited)
            return mapped
        except (OSError, UsageError):
            pass  # no right to open it again, or a writer was quicker
    return File(inherited, setup.name, read="pread")


def _wire(setup: Setup) -> Wire | Failure:
    """Certificates that cannot be read any more are told with each ticket."""
    try:
        return Wire(ConnectionPool(Connector(None if setup.tls is None else setup.tls.context())))
    except UsageError as error:
        return Failure.of(error)
