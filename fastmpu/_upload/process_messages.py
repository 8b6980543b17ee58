"""What parent and workers say to each other, and how: pickles over a socket, and a few numbers in shared memory.

Threads: a `Channel` belongs to one thread at a time, a lane's cells to both processes at once: the worker writes
`HANDED`, `TAKEN` and `BEAT`, the parent `CANCEL`, and the first two and that when no ticket is under way. Each is one
aligned word; one that is a moment old does no harm.

No bytes of an object are in here, but a token may be among a ticket's headers: no repr here shows it, and no frame
holds a pickle that an exception's traceback could show.
"""

from __future__ import annotations

import io
import pickle
import socket
import struct
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from .._plan import PartRange
from .._transport import AnswerHead, Exchange, Origin
from .stages import StageTimes

if TYPE_CHECKING:
    from ..ais.tls import Tls  # by those who have TLS: a worker without it needs nothing of `ais`

# A lane's cells: 64-bit words, a cache line apart from the next lane's.
HANDED: Final = 0  # body bytes that the kernel took
TAKEN: Final = 1  # a worker has begun with the ticket: from now on a byte may have gone out
CANCEL: Final = 2  # 1: stop
BEAT: Final = 3  # in a worker's first lane: goes up every BEAT_SECONDS for as long as the process runs
CELLS: Final = 8
CELLS_BYTES: Final = 8 * CELLS

BEAT_SECONDS: Final = 0.1
FDS_AT_ONCE: Final = 128  # SCM_RIGHTS takes 253
_HEAD: Final = struct.Struct("!I")


@dataclass(frozen=True)
class Setup:
    """The first message to a worker. `cells`: where each lane's are. `longest`: of an answer's body, so many bytes
    are of interest. After it come the descriptors: shared memory, source, what a `Bandwidth` of `rate` is shared by (if
    there is one), a socket for each lane."""

    parent: int
    name: str
    mapped: bool
    tls: Tls | None
    cells: tuple[int, ...]
    rate: float | None
    longest: int


@dataclass(frozen=True)
class Send:
    """Send `part` as the body of this request. `limits`: as a request's extensions tell them."""

    part: PartRange
    checksums: tuple[str, ...]
    origin: Origin
    method: str
    target: bytes
    fields: list[tuple[bytes, bytes]] = field(repr=False)
    limits: dict[str, Any]


@dataclass(frozen=True)
class Hash:
    """Compute a checksum of `part`; nothing is sent."""

    part: PartRange
    kind: str


Ticket = Send | Hash


class Untold(Exception):
    """An error of a worker's that does not pickle: its class's name, and its words."""


@dataclass(frozen=True)
class Failure:
    """An exception on its way home: without frames, which may hold secrets, and do not pickle."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]
    cause: Failure | None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        cause = None if error.__cause__ is None else cls.of(error.__cause__)
        failure = cls(type(error), error.args, dict(vars(error)), cause)
        try:
            pickle.loads(pickle.dumps(failure)).error()
        except Exception:  # noqa: BLE001 - whatever a class of somebody else's does when it is pickled
            return cls(Untold, (f"{type(error).__name__}: {error}",), {}, None)
        return failure

    def error(self) -> BaseException:
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        vars(error).update(self.state)
        error.__cause__ = None if self.cause is None else self.cause.error()
        return error


@dataclass(frozen=True)
class Outcome:
    """What became of a ticket: an answer, or a failure, or both, if the answer's body broke off. `record` has the
    fields of the Exchange, `checksums` those of the bytes sent, if all were, or of the range hashed, `spent` what the
    body took."""

    checksums: dict[str, str] | None
    record: dict[str, Any] = field(default_factory=dict)
    head: AnswerHead | None = field(default=None, repr=False)
    content: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    spent: StageTimes = field(default_factory=StageTimes)


RECORDED: Final = tuple(each.name for each in fields(Exchange) if each.name != "resent")  # `resent` is the parent's


class Channel:
    """Objects over a stream socket, which it owns. EOFError: the other side has gone."""

    def __init__(self, connected: socket.socket):
        self.socket = connected

    def send(self, value: object) -> None:
        gone = False
        data = pickle.dumps(value)
        try:
            self.socket.sendall(_HEAD.pack(len(data)) + data)
        except OSError:
            gone = True
        del data  # no traceback shows it
        if gone:
            raise EOFError

    def receive(self) -> Any:
        (length,) = _HEAD.unpack(self._read(_HEAD.size).getbuffer())
        return pickle.load(self._read(length))

    def _read(self, length: int) -> io.BytesIO:
        taken = io.BytesIO()  # its repr shows nothing
        while taken.tell() < length:
            try:
                count = taken.write(self.socket.recv(min(length - taken.tell(), 1 << 16)))
            except OSError:
                count = 0
            if not count:
                raise EOFError
        taken.seek(0)
        return taken

    def hang_up(self) -> None:
        """The other side, and a thread of ours that waits, see the end; also if a forked child has a copy."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has gone already

    def close(self) -> None:
        self.hang_up()
        self.socket.close()
