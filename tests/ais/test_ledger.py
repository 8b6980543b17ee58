"""The ledger: one owner of all states. Whatever threads ask for, a part starts once (protocol H1)."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter

import pytest

from fastmpu.ais.ledger import Ledger
from fastmpu.ais.states import PART_MOVES, IllegalMoveError, PartEvent, PartState, UploadEvent, UploadState
from fastmpu.errors import PartRepeatedError, UploadStateError

THREADS = 16


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger("ais://b/o")
    ledger.created("upload-1")
    return ledger


def together(work: object) -> None:
    """`work` in all threads at once; the first exception comes out."""
    gate = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run() -> None:
        gate.wait(10)
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if failures:
        raise failures[0]


def test_sixteen_threads_start_each_part_once(ledger: Ledger) -> None:
    """All go for the same 300 numbers, in orders of their own: one start each, and 15 refusals."""
    starts: Counter[int] = Counter()
    refusals: Counter[int] = Counter()
    lock = threading.Lock()

    def work() -> None:
        for number in random.sample(range(1, 301), 300):
            try:
                ledger.start(number)
            except PartRepeatedError:
                with lock:
                    refusals[number] += 1
                continue
            with lock:
                starts[number] += 1
            ledger.end(number, PartEvent.STORED)

    together(work)
    assert set(starts.values()) == {1}
    assert set(refusals.values()) == {THREADS - 1}
    assert sorted(ledger.acknowledged) == list(range(1, 301))
    assert ledger.begin_complete() == list(range(1, 301))


def test_a_refused_part_is_one_threads_again(ledger: Ledger) -> None:
    """Attempts of a part never overlap, though it is started again after each refusal."""
    running: Counter[int] = Counter()
    overlaps: list[int] = []

    def work() -> None:
        for number in random.sample(range(1, 101), 100):
            try:
                ledger.start(number)
            except PartRepeatedError:
                continue
            running[number] += 1
            if running[number] != 1:
                overlaps.append(number)
            running[number] -= 1
            ledger.end(number, PartEvent.REFUSED if random.random() < 0.5 else PartEvent.STORED)

    together(work)
    assert overlaps == []
    assert len(ledger.acknowledged) == len(set(ledger.acknowledged))


def test_one_of_many_completes_begins(ledger: Ledger) -> None:
    """H5: two at a time destroy the object."""
    ledger.start(1)
    ledger.end(1, PartEvent.STORED)
    began: list[list[int]] = []

    def work() -> None:
        try:
            began.append(ledger.begin_complete())
        except UploadStateError:
            return

    together(work)
    assert began == [[1]]
    assert ledger.state is UploadState.COMPLETING


def test_one_of_many_aborts_is_sent(ledger: Ledger) -> None:
    """The others find nothing to do."""
    answers: list[bool] = []
    together(lambda: answers.append(ledger.begin_abort()))
    assert sorted(answers) == [False] * (THREADS - 1) + [True]


@pytest.mark.parametrize(
    ("event", "words"),
    [(None, "in flight"), (PartEvent.UNANSWERED, "of unknown fate"), (PartEvent.STORED, "acknowledged")],
)
def test_a_part_that_may_be_stored_is_refused(ledger: Ledger, event: PartEvent | None, words: str) -> None:
    """The error names the part, its state, the object and the upload id, and H1."""
    ledger.start(3)
    if event is not None:
        ledger.end(3, event)
    with pytest.raises(PartRepeatedError, match=rf"part 3 of ais://b/o is {words}.*H1") as caught:
        ledger.start(3)
    assert (caught.value.part_number, caught.value.upload_id) == (3, "upload-1")
    if event is not PartEvent.STORED:
        with pytest.raises(UploadStateError, match=f"parts 3 are {words}"):
            ledger.begin_complete()


def test_a_gap_is_named(ledger: Ledger) -> None:
    """Ten numbers at most, the others counted."""
    ledger.start(20)
    ledger.end(20, PartEvent.STORED)
    with pytest.raises(UploadStateError, match=r"parts 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 9 more are missing"):
        ledger.begin_complete()


def test_a_probe_leads_on_from_doubt(ledger: Ledger) -> None:
    """Found stored: acknowledged, for good. Found missing: to be sent again."""
    for number in (1, 2):
        ledger.start(number)
        ledger.end(number, PartEvent.UNANSWERED)
    assert ledger.unknown() == [1, 2]
    assert "2 unknown" in repr(ledger)
    ledger.end(1, PartEvent.FOUND_STORED)
    ledger.end(2, PartEvent.FOUND_MISSING)
    assert (ledger.unknown(), ledger.acknowledged) == ([], [1])
    ledger.start(2)
    with pytest.raises(PartRepeatedError):
        ledger.start(1)


def test_our_own_mistakes_are_loud(ledger: Ledger) -> None:
    """An end without a start, or a second one, is a bug and says so."""
    for event in PartEvent:
        if event not in PART_MOVES[PartState.PLANNED]:
            with pytest.raises(IllegalMoveError, match=PartState.PLANNED.name):
                ledger.end(1, event)
    ledger.start(1)
    ledger.end(1, PartEvent.STORED)
    with pytest.raises(IllegalMoveError):
        ledger.end(1, PartEvent.STORED)
    with pytest.raises(IllegalMoveError):
        ledger.apply(UploadEvent.ACCEPTED)


def test_an_unanswered_complete_is_not_aborted(ledger: Ledger) -> None:
    """It could race with the complete; only the object can confirm it. Nor is anything sent any more."""
    ledger.start(1)
    ledger.end(1, PartEvent.STORED)
    ledger.begin_complete()
    with pytest.raises(UploadStateError, match="cannot be aborted"):
        ledger.begin_abort()
    ledger.apply(UploadEvent.UNANSWERED)
    with pytest.raises(UploadStateError, match="could race"):
        ledger.begin_abort()
    with pytest.raises(UploadStateError, match="cannot complete"):
        ledger.begin_complete()
    with pytest.raises(UploadStateError, match="cannot put part 2"):
        ledger.start(2)
    ledger.apply(UploadEvent.CONFIRMED)
    assert ledger.state is UploadState.COMPLETED


def test_nothing_starts_once_an_abort_has_begun(ledger: Ledger) -> None:
    """It waits for what is in flight, and only for that."""
    ledger.start(1)
    aborting = threading.Thread(target=ledger.begin_abort)
    aborting.start()
    while ledger.state is not UploadState.ABORTING:
        pass
    with pytest.raises(UploadStateError, match="being aborted"):
        ledger.start(2)
    assert aborting.is_alive()
    ledger.end(1, PartEvent.REFUSED)
    aborting.join(10)
    assert not aborting.is_alive()


def test_an_interrupted_abort_can_be_tried_again(ledger: Ledger) -> None:
    """Ctrl-C while it waits for a part: the upload is not left between two states."""
    sender = threading.Thread(target=ledger.start, args=(1,))
    sender.start()
    sender.join()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ledger.begin_abort()
    timer.join()
    ledger.end(1, PartEvent.REFUSED)
    assert ledger.begin_abort()


def test_an_attempt_of_the_aborting_thread_itself_has_ended(ledger: Ledger) -> None:
    """An interrupt came before that could be noted, and nobody else will: what became of it is not known."""
    ledger.start(1)
    assert ledger.begin_abort()
    assert ledger.unknown() == [1]


def test_before_create_there_is_nothing_to_abort() -> None:
    """An upload without an id is aborted without a request, and cannot be created afterwards."""
    ledger = Ledger("ais://b/o")
    assert not ledger.begin_abort()
    with pytest.raises(UploadStateError, match="cannot create"):
        ledger.need(UploadState.NEW, "create")
