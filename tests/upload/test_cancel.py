"""Stopping on request or at a deadline: nothing new starts, attempts end, the upload is aborted, and soon."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from interposer import Action, Forward, Interposer, answer, lose_answer, meanwhile, refuse, unreachable

import fastmpu
from fastmpu import mock
from fastmpu.errors import Cancelled, DeadlineError, UsageError

DATA = random.Random(10).randbytes(60_000)
ENGINES = ["inline", "thread"]
SOON = 5.0  # seconds; what is measured is whether it waits for minutes
PATIENT = fastmpu.RetryPolicy(attempts=5, base=600.0, cap=600.0)


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


def send(obj: fastmpu.Object, engine: str, **options: Any) -> fastmpu.Receipt:
    """Six parts."""
    return obj.upload(DATA, **{"part_size": 10_000, "engine": engine, **options})


def hold(until: Callable[[], bool]) -> Action:
    """A cluster that takes its time; a request that is told to stop stops, as the transport does."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        flag = request.extensions.get("cancel")
        while not until() and not (flag is not None and flag.is_set()):
            time.sleep(0.005)
        return forward(request)

    return action


# --- the event --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("part_size", [10_000, 100_000], ids=["parts", "whole"])
def test_cancelled_before_it_began(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str, part_size: int
) -> None:
    """No upload is created, and no byte is sent."""
    event = threading.Event()
    event.set()
    with tap.silence(), pytest.raises(Cancelled, match="cancelled on request") as caught:
        send(obj, engine, cancel=event, part_size=part_size)
    assert caught.value.object_name == obj.uri
    assert not obj.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelled_from_another_thread(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str) -> None:
    """While parts are under way: they end, the upload is aborted, the object is not there."""
    event, under_way = threading.Event(), threading.Event()
    tap.on("part", meanwhile(under_way.set), part=4, times=1)
    tap.on("part", hold(event.is_set), part=5)

    def cancel() -> None:
        assert under_way.wait(10)
        event.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with soon(), pytest.raises(Cancelled):
        send(obj, engine, cancel=event)
    canceller.join()
    assert (tap.count("abort"), tap.count("complete")) == (1, 0)
    assert not obj.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelled_by_the_progress_function(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """It may set the event, too: at most what was in flight is still sent."""
    monkeypatch.setattr("fastmpu._upload.progress.INTERVAL", 0.0)
    event = threading.Event()

    def on_progress(progress: fastmpu.ProgressEvent) -> None:
        if progress.acked >= 20_000:
            event.set()

    with soon(), pytest.raises(Cancelled):
        send(obj, engine, cancel=event, progress=on_progress, max_concurrency=2)
    assert len(tap.parts_sent()) <= 4
    assert (tap.count("abort"), tap.count("complete")) == (1, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelled_while_a_plain_put_is_under_way(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str
) -> None:
    """Nothing is stored."""
    event = threading.Event()
    tap.on("put", meanwhile(event.set))
    with soon(), pytest.raises(Cancelled):
        send(obj, engine, cancel=event, part_size=100_000)
    assert not obj.exists()


def test_any_event_will_do(obj: fastmpu.Object, nothing_left: None) -> None:
    """Something with `is_set()`; anything else is refused before a request."""

    class Late:
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 4

    with pytest.raises(Cancelled):
        send(obj, "inline", cancel=Late())
    with pytest.raises(UsageError, match="must be an event"):
        send(obj, "inline", cancel=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_cancel_after_complete_changes_nothing(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """The object is there: it is proved, and the receipt is given."""
    event = threading.Event()
    tap.on("head", meanwhile(event.set))
    assert send(obj, engine, cancel=event).verified == "head"
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_keep_keeps_the_parts(obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str) -> None:
    """on_error="keep" holds for Cancelled as for any error, which names the upload."""
    event = threading.Event()
    tap.on("part", meanwhile(event.set), part=1)  # the last to start
    with pytest.raises(Cancelled) as caught:
        send(obj, engine, cancel=event, on_error="keep", max_concurrency=1)
    assert tap.count("abort") == 0
    assert cluster.stored_bytes >= 50_000
    assert caught.value.upload_id in tap.uploads_touched()


def test_an_abort_that_fails_is_in_the_error(obj: fastmpu.Object, tap: Interposer) -> None:
    """Who cancels learns what is left behind."""
    event = threading.Event()
    tap.on("part", meanwhile(event.set), part=4)
    tap.on("abort", refuse(500))
    with pytest.raises(Cancelled) as caught:
        send(obj, "inline", cancel=event)
    assert tap.count("abort") == 3
    if hasattr(caught.value, "add_note"):  # Python 3.11
        assert any("could not be aborted" in note for note in getattr(caught.value, "__notes__", ()))


# --- while waiting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", ["part", "create", "locate", "put"])
def test_cancelled_while_waiting_for_another_try(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str, step: str
) -> None:
    """A wait of up to ten minutes is cut short, and no other try is made."""
    event = threading.Event()
    timers: list[threading.Timer] = []
    refused = refuse(503, message="later")

    def refused_and_cancelled_soon(request: httpx.Request, forward: Forward) -> httpx.Response:
        timers.append(threading.Timer(0.1, event.set))
        timers[-1].start()
        return refused(request, forward)

    tap.on(step, refused_and_cancelled_soon)
    with soon(), pytest.raises(Cancelled):
        send(obj, engine, cancel=event, retry=PATIENT, part_size=100_000 if step == "put" else 10_000)
    for timer in timers:
        timer.join()
    assert tap.count("complete") == 0
    assert tap.count("abort") == (1 if step in ("part", "locate") else 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelled_in_the_gap_probe(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str) -> None:
    """No new upload is begun for somebody who does not want it any more; the old one is aborted."""
    event = threading.Event()

    def no_answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        event.set()
        return unreachable(request, forward)

    tap.on("part", lose_answer, part=3, times=1)
    tap.on("complete", no_answer, direct=True)
    with soon(), pytest.raises(Cancelled):
        send(obj, engine, cancel=event)
    assert (tap.count("create"), tap.count("abort")) == (1, 1)
    assert tap.count("complete") == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("done", [False, True])
def test_cancelled_while_an_unanswered_complete_is_confirmed(
    obj: fastmpu.Object, tap: Interposer, engine: str, done: bool
) -> None:
    """The object is looked at once more. Proved: that is success. Else nobody knows, so nothing is aborted either."""
    event = threading.Event()
    tap.on("complete", lose_answer if done else answer(504), direct=True)
    tap.on("head", meanwhile(event.set))
    if done:
        assert send(obj, engine, cancel=event).verified == "head"
        assert obj.get_reader().read_all() == DATA
    else:
        with soon(), pytest.raises(Cancelled) as caught:
            send(obj, engine, cancel=event)
        assert caught.value.upload_id in tap.uploads_touched()
        assert tap.count("create") == 1
    assert (tap.count("complete"), tap.count("abort")) == (1, 0)


# --- the deadline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("part_size", [10_000, 100_000], ids=["parts", "whole"])
def test_a_deadline(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str, part_size: int) -> None:
    """DeadlineError, which is a TimeoutError; aborted, and nothing is left."""
    tap.on("part", hold(lambda: False))
    tap.on("put", hold(lambda: False))
    with soon(), pytest.raises(DeadlineError, match=r"deadline=0\.1 s") as caught:
        send(obj, engine, deadline=0.1, part_size=part_size)
    assert isinstance(caught.value, TimeoutError)
    assert tap.count("abort") == (part_size == 10_000)
    assert not obj.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_deadline_counts_all_uploads_of_the_object(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str
) -> None:
    """A new upload id does not buy new time."""
    tap.on("part", answer(504), part=2, times=1)
    tap.on("part", refuse(429), part=3)
    with soon(), pytest.raises(DeadlineError) as caught:
        send(obj, engine, deadline=0.3, retry=PATIENT, max_concurrency=1)
    assert tap.count("create") == tap.count("abort") == 2
    assert caught.value.upload_id in tap.uploads_touched()


def test_a_deadline_that_is_kept(obj: fastmpu.Object) -> None:
    """It costs nothing."""
    assert send(obj, "thread", deadline=60).verified == "head"


def test_a_request_and_a_deadline(obj: fastmpu.Object, nothing_left: None) -> None:
    """Both came: the one who asked is told so."""
    event = threading.Event()
    event.set()
    with pytest.raises(Cancelled):
        send(obj, "thread", cancel=event, deadline=0.000_001)


@pytest.mark.parametrize("bad", [0, -1.0, "soon", True, float("nan")])
def test_deadlines_that_make_no_sense(obj: fastmpu.Object, tap: Interposer, bad: Any) -> None:
    with tap.silence(), pytest.raises(UsageError, match="deadline"):
        send(obj, "thread", deadline=bad)
