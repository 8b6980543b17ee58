"""Ctrl-C: attempts end, the upload is aborted, and the interrupt comes out as itself (reliability 2D)."""

from __future__ import annotations

import _thread
import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from interposer import Interposer, meanwhile, within_body

import fastmpu
from fastmpu import mock

DATA = random.Random(6).randbytes(60_000)
ENGINES = ["inline", "thread"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stage", ["send", "complete"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_progress_function(
    obj: fastmpu.Object,
    tap: Interposer,
    nothing_left: None,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    stage: str,
    kind: type[BaseException],
) -> None:
    """It is raised in the caller's thread, as any signal's handler is: at each stage before complete it aborts."""
    monkeypatch.setattr("fastmpu._upload.progress.INTERVAL", 0.0)

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        if event.stage == stage and event.acked:
            raise kind

    with pytest.raises(kind):
        obj.upload(DATA, part_size=10_000, engine=engine, progress=on_progress)
    assert (tap.count("create"), tap.count("abort"), tap.count("complete")) == (1, 1, 0)


def test_an_interrupt_after_complete_keeps_the_object(obj: fastmpu.Object, tap: Interposer) -> None:
    """Nothing is aborted, or deleted, once the object is there."""

    def on_progress(event: fastmpu.ProgressEvent) -> None:
        if event.stage in ("verify", "done"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obj.upload(DATA, part_size=10_000, progress=on_progress)
    assert tap.count("abort") == 0
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_while_waiting_for_parts(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str
) -> None:
    """SIGINT while the main thread waits, or sends: it does not hang, threads end, the upload is aborted."""
    parts_under_way = threading.Semaphore(0)

    def interrupt() -> None:
        parts_under_way.release()
        _thread.interrupt_main()

    tap.on("part", within_body(interrupt), part=4, times=1)
    with pytest.raises(KeyboardInterrupt):
        obj.upload(DATA, part_size=10_000, engine=engine, max_concurrency=2)
    assert parts_under_way.acquire(blocking=False)
    assert (tap.count("abort"), tap.count("complete")) == (1, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_during_a_plain_put(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """Nothing was stored, no connection and no thread is left."""
    tap.on("put", meanwhile(_thread.interrupt_main))
    with pytest.raises(KeyboardInterrupt):
        obj.upload(DATA, engine=engine)
    assert "0 in use" in repr(tap)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastmpu")]


@pytest.mark.parametrize("engine", ENGINES)
def test_on_error_keep_holds_for_interrupts(
    obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str
) -> None:
    """Parts that were stored stay; threads end all the same."""
    tap.on("part", meanwhile(_thread.interrupt_main), part=1)
    with pytest.raises(KeyboardInterrupt):
        obj.upload(DATA, part_size=10_000, engine=engine, max_concurrency=1, on_error="keep")
    assert tap.count("abort") == 0
    assert cluster.stored_bytes >= 50_000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastmpu")]


def test_an_interrupt_by_hand(obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster) -> None:
    """The `with` block of one's own upload aborts on Ctrl-C, too, and the part in flight does not come back."""
    tap.on("part", within_body(_thread.interrupt_main), part=2)

    def block() -> None:
        with obj.multipart_upload() as mpu:
            mpu.add_part(1).put_content(DATA)
            mpu.add_part(2).put_content(DATA)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert (tap.count("abort"), tap.count("complete")) == (1, 0)
    assert cluster.stored_bytes == 0


@pytest.mark.parametrize("engine", ["thread"])
def test_a_signal_ends_the_process_and_aborts_the_upload(
    cluster: mock.Cluster, obj: fastmpu.Object, tmp_path: Path, engine: str
) -> None:
    """A program that uses the library: KeyboardInterrupt as Python does it, in seconds, with nothing left."""
    source = tmp_path / "source"
    source.write_bytes(DATA)
    program = Path(__file__).with_name("slow_upload.py")
    with subprocess.Popen(
        [sys.executable, str(program), cluster.endpoint, obj.uri, str(source), engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    assert cluster.stored_bytes == 0
    assert not obj.exists()


class _Interrupt:
    """A trace function (sys.settrace) that interrupts at the `at`-th line, or return, of these files in this thread."""

    FILES = ("ais/ledger.py", "ais/multipart.py", "_upload/part_task.py", "_upload/parts_run.py")

    def __init__(self, at: int):
        self._left = at
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._step if frame.f_code.co_filename.endswith(self.FILES) else None

    def _step(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self._left -= event in ("line", "return")
        if self._left == 0 and not self.where:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} ({event})"
            raise KeyboardInterrupt
        return self._step


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_at_any_line(cluster: mock.Cluster, engine: str) -> None:
    """Also where a part's state is just being noted: it ends, whatever the line, as what it is, and no part is sent
    twice. A part that nobody was left to end kept its own thread's abort waiting for ever."""
    before = sys.gettrace()
    with fastmpu.Client(cluster.endpoint) as client:
        bucket = client.bucket("bucket").create()
        for number in itertools.count(1):
            target = bucket.object(f"o{number}")
            interrupt = _Interrupt(number)
            sys.settrace(interrupt)
            try:
                receipt = target.upload(
                    DATA[:30_000], part_size=10_000, engine=engine, max_concurrency=2, journal="off"
                )
            except KeyboardInterrupt:
                continue
            finally:
                sys.settrace(before)
            assert not interrupt.where, f"an interrupt was swallowed: {interrupt.where}"
            assert receipt.verified == "head"
            break
        assert number > 200
    assert cluster.truth.wait_until_quiet()
    assert not [each for each in cluster.truth.violations() if "twice" in each or "destroyed" in each]
