"""engine="process": this process sends, too: from the start, beside its workers, and alone when there are none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fastmpu
from bench.judge import children
from fastmpu import mock
from fastmpu._plan import PartRange
from fastmpu._sizes import MiB
from fastmpu._source import resolve
from fastmpu._transport import Cancelled as TransportCancelled
from fastmpu._upload import process_pool
from fastmpu._upload.process_messages import Hash
from fastmpu.errors import Cancelled

DATA = random.Random(27).randbytes(8 * MiB)
SLOW: Any = {"ms": 50, "op": "part", "times": "always"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def obj(cluster: mock.Cluster) -> Iterator[fastmpu.Object]:
    with fastmpu.Client(cluster.endpoint, timeouts=fastmpu.Timeouts(fence=0.2)) as client:
        yield client.bucket("bucket").create().object("o")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tickets this process was doing itself, each time it began with one."""
    seen: list[int] = []
    take = process_pool.ProcessPool._take

    def watched(pool: process_pool.ProcessPool, cancel: Any) -> Any:
        lane = take(pool, cancel)
        if lane is None:
            seen.append(pool._here)
        return lane

    monkeypatch.setattr(process_pool.ProcessPool, "_take", watched)
    return seen


def send(obj: fastmpu.Object, source: Path, **options: Any) -> fastmpu.Receipt:
    """32 parts of 256 KiB."""
    given = {"part_size": "256KiB", "max_concurrency": 4, "engine": "process", "processes": 1, "journal": "off"}
    return obj.upload(source, **{**given, **options})


def wait_until_it_is_up(pool: process_pool.ProcessPool) -> None:
    end = time.monotonic() + 10
    while not any(pool._is_ready(worker) for worker in list(pool._workers.values())):
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize(
    "options", [{}, {"part_checksum": "sha256"}, {"checksum": "xxhash"}, {"max_bandwidth": "40MB"}]
)
def test_both_send(
    obj: fastmpu.Object,
    source: Path,
    cluster: mock.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    here: list[int],
    options: dict[str, Any],
) -> None:
    """Each its share, at the same time; the receipt does not tell them apart."""
    ask = process_pool.ProcessPool.ask

    def once_it_is_up(pool: process_pool.ProcessPool, *ticket: Any) -> Any:
        wait_until_it_is_up(pool)
        return ask(pool, *ticket)

    monkeypatch.setattr(process_pool.ProcessPool, "ask", once_it_is_up)
    with cluster.faults.add("late_response", **SLOW):
        receipt = send(obj, source, **options)
    assert obj.get_reader().read_all() == DATA
    other = send(obj, source, **{**options, "engine": "thread"})
    assert [part.checksums for part in receipt.parts] == [part.checksums for part in other.parts]
    assert (receipt.engine, receipt.checksum, receipt.verified) == ("process", other.checksum, "head")
    assert receipt.bytes_sent == len(DATA)
    assert 4 <= len(here) < (64 if "part_checksum" in options else 32)  # the rest was done by the worker
    assert max(here) == 2
    assert cluster.truth.violations() == []


def test_nothing_waits_for_the_start(
    obj: fastmpu.Object, source: Path, monkeypatch: pytest.MonkeyPatch, here: list[int]
) -> None:
    """A worker that does not come up is not missed, nor waited for at the end: its share is done here until then."""
    monkeypatch.setattr(process_pool, "_BOOT", "import time; time.sleep(60)")
    began = time.monotonic()
    receipt = send(obj, source)
    assert time.monotonic() - began < 10
    assert receipt.verified == "head"
    assert obj.get_reader().read_all() == DATA
    assert len(here) == 32
    assert max(here) == 4


@pytest.mark.parametrize(("start_after", "started"), [(60.0, False), (0.2, True)])
def test_workers_are_started_when_an_upload_has_lasted(
    obj: fastmpu.Object,
    source: Path,
    cluster: mock.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    here: list[int],
    start_after: float,
    started: bool,
) -> None:
    """One that is over by then has none, and does not wait for the moment either."""
    monkeypatch.setattr(process_pool, "START_AFTER", start_after)
    starts: list[float] = []
    start = process_pool.ProcessPool._started
    began = time.monotonic()

    def noted(pool: process_pool.ProcessPool, index: int) -> process_pool.Worker:
        starts.append(time.monotonic() - began)
        return start(pool, index)

    monkeypatch.setattr(process_pool.ProcessPool, "_started", noted)
    with cluster.faults.add("late_response", **{**SLOW, "ms": 100}):
        receipt = send(obj, source)
    assert time.monotonic() - began < 30
    assert (receipt.engine, receipt.verified) == ("process", "head")
    assert obj.get_reader().read_all() == DATA
    assert bool(starts) is started
    assert min(starts, default=start_after) >= start_after
    assert len(here) == 32 or started  # whether it has come up by the end is the machine's


def test_no_worker_is_started_when_nothing_is_left_to_send(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow end, or a proof that reads everything back, has no use for one."""
    monkeypatch.setattr(process_pool, "START_AFTER", 0.3)
    starts: list[int] = []
    monkeypatch.setattr(process_pool.ProcessPool, "_started", lambda pool, index: starts.append(index))
    with cluster.faults.add("late_response", ms=1000, op="complete"):
        began = time.monotonic()
        receipt = send(obj, source)
    assert time.monotonic() - began > 1.0
    assert (receipt.engine, receipt.verified) == ("process", "head")
    assert starts == []


def test_the_checksum_of_a_part_that_was_begun_here_and_stored_by_a_worker(
    cluster: mock.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has hashed a beginning of it, when the target refuses; a worker sends it, and dies before it can
    tell. The part is there, and its checksum is that of all of it."""
    data = random.Random(28).randbytes(40 * MiB)
    path = tmp_path / "large.bin"
    path.write_bytes(data)
    attempts: list[bool] = []  # of part 1: whether by a worker
    take = process_pool.ProcessPool._take

    def turns(pool: process_pool.ProcessPool, cancel: Any) -> Any:
        """This process's, then a worker's, then this one's."""
        attempts.append(len(attempts) == 1)
        if attempts[-1]:
            cluster.faults.add("late_response", ms=60_000, op="part", part=2)
            wait_until_it_is_up(pool)
            with monkeypatch.context() as workers_only:
                workers_only.setattr(process_pool, "SHARE", 0)
                return take(pool, cancel)
        with pool._changed:
            pool._here += 1
        return None

    def strike() -> None:
        end = time.monotonic() + 10
        while not cluster.truth.attempts(op="part", part=2, outcome="stored") and time.monotonic() < end:
            time.sleep(0.005)
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    cluster.faults.add("early_status", code=503, op="part", part=2)
    with fastmpu.Client(cluster.endpoint, timeouts=fastmpu.Timeouts(fence=0.2)) as client:
        obj = client.bucket("bucket").create().object("o")
        monkeypatch.setattr(process_pool.ProcessPool, "_take", turns)
        striker = threading.Thread(target=strike)
        striker.start()
        options: Any = {"part_size": "20MiB", "max_concurrency": 2, "retry": fastmpu.RetryPolicy(base=0.0)}
        receipt = send(obj, path, **options)
        striker.join()
        assert obj.get_reader().read_all() == data
    assert attempts == [False, True, False]  # and no more: nobody took the object for another one
    assert (receipt.probes, receipt.restarts, receipt.verified) == (1, 0, "head")
    assert cluster.truth.violations() == []


def test_who_is_least_busy_has_the_next_turn(source: Path) -> None:
    """A worker's, if it is a tie. What waits for this process's turn begins as soon as that is over."""
    with resolve(source) as data:
        pool = process_pool.ProcessPool(data, None, 1, 4)
        try:
            wait_until_it_is_up(pool)
            taken = [pool._take(None) for _ in range(4)]
            assert [lane is None for lane in taken] == [False, True, False, True]
            fifth: list[object] = []
            waiter = threading.Thread(target=lambda: fifth.append(pool._take(None)))
            waiter.start()
            waiter.join(0.1)
            assert waiter.is_alive()
            pool.done_here()
            waiter.join(10)
            assert fifth == [None]
            for lane in taken:
                if lane is not None:
                    pool._give_back(lane, alive=True)
            outcome = pool.ask(Hash(PartRange(1, 0, 10), "sha256"), None, None)
            assert outcome is not None
        finally:
            pool.close()


def test_a_wait_for_a_turn_can_be_cancelled(source: Path) -> None:
    stop = threading.Event()
    with resolve(source) as data:
        pool = process_pool.ProcessPool(data, None, 1, 2)
        try:
            wait_until_it_is_up(pool)
            lane, mine = pool._take(None), pool._take(None)
            assert lane is not None
            assert mine is None
            threading.Timer(0.1, stop.set).start()
            with pytest.raises(TransportCancelled):
                pool._take(stop)
            pool._give_back(lane, alive=True)
        finally:
            pool.close()


def test_cancel(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """Requests of both end, and the upload is aborted."""
    event = threading.Event()

    def cancel() -> None:
        end = time.monotonic() + 10
        while len([each for each in cluster.truth.alive if each.op == "part"]) < 4 and time.monotonic() < end:
            time.sleep(0.005)
        event.set()

    with cluster.faults.add("trickle", bytes_per_s=1000, op="part", times="always"):
        other = threading.Thread(target=cancel)
        other.start()
        with pytest.raises(Cancelled):
            send(obj, source, cancel=event)
        other.join()
    assert cluster.truth.wait_until_quiet()
    assert not obj.exists()


def test_the_worker_dies_and_this_process_goes_on(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, here: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Each time, until no more are started. What it had begun with is asked for; the rest is sent from here."""
    stop = threading.Event()

    def reap() -> None:
        while not stop.wait(0.01):
            for pid in children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        with cluster.faults.add("late_response", **{**SLOW, "ms": 20}):
            receipt = send(obj, source)
    finally:
        stop.set()
        reaper.join()
    assert receipt.verified == "head"
    assert obj.get_reader().read_all() == DATA
    assert "no worker process is left" in caplog.text
    assert max(here) == 4
    assert not [each for each in cluster.truth.violations() if not each.startswith("abort of upload ")]


def test_one_request_at_a_time_needs_no_worker(obj: fastmpu.Object, source: Path) -> None:
    receipt = send(obj, source, max_concurrency=1)
    assert (receipt.engine, receipt.verified) == ("thread", "head")
    assert "one request at a time" in receipt.engine_reason


def test_a_worker_starts_without_what_it_does_not_need() -> None:
    """Its start is what short uploads feel (docs/decisions/2026-11-23-shared-work.md)."""
    # Coverage, which measures this very process, brings some of them along.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    program = "import sys, fastmpu._upload.process_worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=plain, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "fastmpu._transport.wire" in loaded
    assert not {"httpx", "ssl", "_hashlib", "importlib.metadata", "argparse", "sqlite3", "tempfile"}.intersection(
        loaded
    )
