"""Progress events: true, in order, few, and harmless (features section 4)."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from pathlib import Path

import pytest
from interposer import Interposer, afterwards, meanwhile, refuse

import fastmpu
from fastmpu.errors import FastMPUError, UsageError

DATA = random.Random(2).randbytes(200_000)


@pytest.fixture(params=["inline", "thread"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def check(events: list[fastmpu.ProgressEvent], total: int) -> None:
    """What holds for the events of every upload that succeeds."""
    assert {event.total for event in events} == {total}
    for earlier, later in itertools.pairwise(events):
        assert earlier.sent <= later.sent
        assert earlier.acked <= later.acked
        assert earlier.elapsed <= later.elapsed
    assert all(0 <= event.acked <= event.sent <= total for event in events)
    stages = [event.stage for event in events]
    order = {"send": 0, "complete": 1, "verify": 2, "done": 3}
    assert stages == sorted(stages, key=order.__getitem__)
    last = events[-1]
    assert (last.stage, last.sent, last.acked) == ("done", total, total)
    assert (last.files_done, last.files_total) == (1, 1)
    assert stages.count("done") == 1


@pytest.mark.parametrize("part_size", [1000, 1_000_000], ids=["parts", "whole"])
@pytest.mark.parametrize("size", [0, 1, len(DATA)])
def test_events_of_an_upload(bucket: fastmpu.Bucket, engine: str, part_size: int, size: int) -> None:
    """Counters never go back, stages come in order, and the last event says "done" with everything acknowledged."""
    events: list[fastmpu.ProgressEvent] = []
    bucket.object("o").upload(DATA[:size], part_size=part_size, engine=engine, progress=events.append)
    check(events, size)


def test_events_of_a_file(bucket: fastmpu.Bucket, tmp_path: Path, engine: str) -> None:
    """The same for sendfile, where only the transport knows what has left."""
    path = tmp_path / "source"
    path.write_bytes(DATA * 50)
    events: list[fastmpu.ProgressEvent] = []
    bucket.object("o").upload(path, part_size="512KiB", engine=engine, progress=events.append)
    check(events, len(DATA) * 50)


def test_at_most_ten_a_second(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """Besides one for each stage: 200 parts that take a while make few events."""
    tap.on("part", meanwhile(lambda: time.sleep(0.002)))
    events: list[fastmpu.ProgressEvent] = []
    obj.upload(DATA, part_size=1000, engine=engine, max_concurrency=2, progress=events.append)
    sending = [event.elapsed for event in events if event.stage == "send"]
    assert all(later - earlier >= 0.0999 for earlier, later in itertools.pairwise(sending))
    assert len([event for event in events if event.stage != "send"]) == 3


def test_the_function_runs_in_the_callers_thread_only(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """So it needs no lock, and may raise KeyboardInterrupt."""
    threads: set[threading.Thread] = set()
    tap.on("part", meanwhile(lambda: time.sleep(0.01)))
    obj.upload(
        DATA[:30_000], part_size=1000, engine=engine, progress=lambda event: threads.add(threading.current_thread())
    )
    obj.upload(DATA, progress=lambda event: threads.add(threading.current_thread()))
    assert threads == {threading.current_thread()}


def test_events_come_while_nothing_ends(obj: fastmpu.Object, tap: Interposer) -> None:
    """A large part that takes long still shows life."""
    events: list[fastmpu.ProgressEvent] = []
    more = threading.Event()

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        events.append(event)
        if len(events) == 3:
            more.set()

    tap.on("part", meanwhile(lambda: more.wait(30)), times=1)
    obj.upload(DATA[:2000], part_size=1000, engine="thread", progress=on_progress)
    assert [event.stage for event in events[:3]] == ["send"] * 3
    assert events[2].acked == 0


def test_what_is_under_way_counts_as_sent(obj: fastmpu.Object, tap: Interposer) -> None:
    """`sent` runs before `acked`, and does not go back where a part has to be sent again."""
    held = threading.Event()
    events: list[fastmpu.ProgressEvent] = []

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        events.append(event)
        if event.sent >= 1000:
            held.set()

    tap.on("part", afterwards(lambda: held.wait(30)), times=1)
    obj.upload(DATA[:2000], part_size=1000, engine="thread", progress=on_progress)
    assert any(event.sent > event.acked for event in events)
    check(events, 2000)


@pytest.mark.parametrize("part_size", [1000, 1_000_000], ids=["parts", "whole"])
def test_a_function_that_raises_does_not_fail_the_upload(
    obj: fastmpu.Object, engine: str, part_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once, not called again."""
    calls = 0

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("the caller's bug")

    with caplog.at_level(logging.ERROR):
        obj.upload(DATA, part_size=part_size, engine=engine, progress=on_progress)
    assert calls == 1
    assert len(caplog.records) == 1
    assert "the caller's bug" in caplog.text
    assert obj.get_reader().read_all() == DATA


def test_an_upload_that_fails_is_never_done(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    events: list[fastmpu.ProgressEvent] = []
    tap.on("part", refuse(403), part=7)
    with pytest.raises(FastMPUError):
        obj.upload(DATA, part_size=10_000, engine=engine, progress=events.append)
    assert {event.stage for event in events} == {"send"}
    assert events[-1].acked < len(DATA)


def test_without_a_function_nothing_is_printed(bucket: fastmpu.Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    """The API is silent by default."""
    bucket.object("o").upload(DATA, part_size=10_000)
    assert capfd.readouterr() == ("", "")


def test_progress_must_be_callable(obj: fastmpu.Object, tap: Interposer) -> None:
    with tap.silence(), pytest.raises(UsageError, match="progress='bar'"):
        obj.upload(DATA, progress="bar")
