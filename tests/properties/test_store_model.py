"""Any sequence of steps by hand, on a real target of the mock's, against a dict of bytes (reliability section 4.1).

The machine knows what the target has stored and what the client may believe; after each step both must agree with what
the client was told, and a completed object must read back as the dict says.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interposer import Interposer, answer, gateway_error, lose_answer, refuse, time_out, unreachable

import fastmpu
from fastmpu import mock
from fastmpu._transport import Body, Piece
from fastmpu.ais.multipart import GapProbe
from fastmpu.ais.states import PartEvent
from fastmpu.errors import (
    AmbiguousPartError,
    ClusterError,
    ConnectFailedError,
    PartRepeatedError,
    UploadLostError,
    UploadStateError,
)

NUMBERS = st.integers(1, 5)
CONTENT = st.binary(min_size=1, max_size=300)
NAMES = itertools.count()


class HalfBody(Body):
    """Breaks off in the middle, as a source does that cannot be read on."""

    def __init__(self, content: bytes):
        self.length = 2 * len(content)
        self._content = content

    def pieces(self, in_memory: bool) -> Iterator[Piece]:
        yield memoryview(self._content)
        raise EOFError("injected: the source broke off")


class Store(RuleBasedStateMachine):
    """One object at a time; a new upload when the last one is over or lost."""

    cluster: mock.Cluster

    def __init__(self) -> None:
        super().__init__()
        self.tap = Interposer()
        self.client = fastmpu.Client(
            self.cluster.endpoint, transport=self.tap, timeouts=fastmpu.Timeouts(fence=0.05, response=5.0)
        )

    def teardown(self) -> None:
        self.client.close()

    @initialize()
    def begin(self) -> None:
        self.object = self.client.bucket("bucket").object(f"model-{next(NAMES)}")
        self.mpu = self.object.multipart_upload().create()
        self.stored: dict[int, bytes] = {}  # the target's
        self.acknowledged: set[int] = set()
        self.unknown: set[int] = set()
        self.lost = False  # the target has forgotten the upload
        self.sent_until_acknowledged: dict[int, int] = {}

    # --- parts --------------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, content=CONTENT)
    def put(self, number: int, content: bytes) -> None:
        """Stored, refused unsent, or told that the upload is gone: as the model says."""
        writer = self.mpu.add_part(number)
        if number in self.acknowledged | self.unknown:
            with self.tap.silence(), pytest.raises(PartRepeatedError):
                writer.put_content(content)
        elif self.lost:
            with pytest.raises(UploadLostError):
                writer.put_content(content)
        else:
            writer.put_content(content)
            self.stored[number] = content
            self.acknowledged.add(number)

    @rule(
        number=NUMBERS, content=CONTENT, fault=st.sampled_from([refuse(500), refuse(429), refuse(400, "ErrBadCksum")])
    )
    def refused(self, number: int, content: bytes, fault: object) -> None:
        """AIStore's own error leaves the number free."""
        if number not in self.acknowledged | self.unknown:
            self._next_part(fault)
            with pytest.raises(ClusterError):
                self.mpu.add_part(number).put_content(content)

    @rule(number=NUMBERS, content=CONTENT)
    def not_reached(self, number: int, content: bytes) -> None:
        """Neither does a connection that was refused take it."""
        if number not in self.acknowledged | self.unknown:
            self._next_part(unreachable)
            with pytest.raises(ConnectFailedError):
                self.mpu.add_part(number).put_content(content)

    @rule(number=NUMBERS, content=CONTENT, fault=st.sampled_from([lose_answer, time_out, gateway_error]))
    def answer_lost(self, number: int, content: bytes, fault: object) -> None:
        """Stored, and nobody knows."""
        if number not in self.acknowledged | self.unknown:
            self._next_part(fault)
            with pytest.raises(AmbiguousPartError):
                self.mpu.add_part(number).put_content(content)
            self.unknown.add(number)
            if not self.lost:
                self.stored[number] = content

    @rule(number=NUMBERS, content=CONTENT)
    def gateway(self, number: int, content: bytes) -> None:
        """Not stored, and nobody knows."""
        if number not in self.acknowledged | self.unknown:
            self._next_part(answer(504))
            with pytest.raises(AmbiguousPartError):
                self.mpu.add_part(number).put_content(content)
            self.unknown.add(number)

    @rule(number=NUMBERS, content=CONTENT)
    def half(self, number: int, content: bytes) -> None:
        """A body that breaks off is never stored, however it ended for us."""
        if number not in self.acknowledged | self.unknown:
            with pytest.raises(EOFError):
                self.mpu.put_part(number, HalfBody(content))
            self.unknown.add(number)

    def _next_part(self, fault: object) -> None:
        """The next part that goes out."""
        self.tap.on("part", fault, times=1)  # type: ignore[arg-type]

    # --- the upload ---------------------------------------------------------------------------------------------------

    @rule()
    def probe(self) -> None:
        """The count is the target's truth; all unknown parts stored: they are acknowledged. Else a new upload."""
        if self.lost:
            with pytest.raises(UploadLostError):
                self.mpu.probe_gaps()
            return
        contiguous = next(n for n in itertools.count() if n + 1 not in self.stored)
        assert self.mpu.probe_gaps() == GapProbe(len(self.stored), contiguous)
        if len(self.stored) == len(self.acknowledged) + len(self.unknown):
            for number in self.unknown:
                self.mpu.ledger.end(number, PartEvent.FOUND_STORED)
            self.acknowledged |= self.unknown
            self.unknown = set()
        else:
            self.abort()

    @rule()
    def complete(self) -> None:
        """With parts 1..n, all acknowledged: the object reads back. Else refused before a request, or a named loss."""
        numbers = sorted(self.acknowledged)
        if self.unknown or not numbers or numbers != list(range(1, len(numbers) + 1)):
            with self.tap.silence(), pytest.raises(UploadStateError):
                self.mpu.complete()
        elif self.lost:
            with pytest.raises(UploadLostError):
                self.mpu.complete()
            self.begin()
        else:
            self.mpu.complete()
            self._read_back(b"".join(self.stored[number] for number in numbers))
            self.begin()

    @precondition(lambda self: not self.lost)
    @rule()
    def complete_without_an_answer(self) -> None:
        """Done all the same; never again, and no abort."""
        numbers = sorted(self.acknowledged)
        if self.unknown or not numbers or numbers != list(range(1, len(numbers) + 1)):
            return

        def lost(request: httpx.Request, forward: object) -> httpx.Response:
            return lose_answer(request, forward)  # type: ignore[arg-type]

        self.tap.on("complete", lost, direct=True, times=1)
        with pytest.raises(ConnectionError):
            self.mpu.complete()
        with self.tap.silence():
            for step in (self.mpu.complete, self.mpu.abort):
                with pytest.raises(UploadStateError):
                    step()
        self._read_back(b"".join(self.stored[number] for number in numbers))
        self.begin()

    @rule()
    def abort(self) -> None:
        """Leaves no file of the upload's behind; the second one is a no-op."""
        self.mpu.abort()
        assert self.mpu.abort() is None
        self.begin()

    @rule()
    def restart(self) -> None:
        """The target forgets the upload, and what it stored is of no use any more."""
        for target in self.cluster.targets:
            target.restart()
        self.lost = True
        self.stored = {}

    def _read_back(self, content: bytes) -> None:
        assert self.object.get_reader().read_all() == content
        assert self.object.head().size == len(content)
        self.object.delete()

    @invariant()
    def the_client_believes_what_it_may(self) -> None:
        if hasattr(self, "mpu"):
            assert set(self.mpu.parts) == self.acknowledged
            assert set(self.mpu.ledger.unknown()) == self.unknown

    @invariant()
    def nothing_is_sent_after_an_acknowledgement(self) -> None:
        """Counted on the wire (H1): how often a part went out until it was acknowledged is how often it ever did."""
        if hasattr(self, "mpu"):
            sent = Counter(wire.part for wire in self.tap.of("part") if wire.query["uploadId"] == self.mpu.upload_id)
            for number in self.acknowledged:
                assert self.sent_until_acknowledged.setdefault(number, sent[number]) == sent[number]


@pytest.fixture(scope="module", autouse=True)
def on_the_cluster(cluster: mock.Cluster) -> None:
    Store.cluster = cluster


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
