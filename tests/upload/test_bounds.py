"""`max_bandwidth` and `max_memory`: what a job may use, whatever the number of its threads, processes and objects."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastmpu
from fastmpu import mock
from fastmpu._upload.bandwidth import SAVED_SECONDS, Bandwidth
from fastmpu._upload.resources import bounded
from fastmpu.errors import Cancelled, UsageError

KIB = 1 << 10
MIB = 1 << 20


@given(
    rate=st.integers(1 << 10, 1 << 33),
    steps=st.lists(st.tuples(st.integers(1, 1 << 23), st.floats(0, 2)), min_size=1, max_size=60),
)
def test_no_more_than_the_rate_and_no_less(rate: int, steps: list[tuple[int, float]]) -> None:
    """Whoever asks when: what may go until any time is the rate times it, and what an idle line saves up at most. And
    nobody waits longer than those before need."""
    line = Bandwidth(rate)
    try:
        now = asked = 1000.0
        taken = 0
        for count, pause in steps:
            now += pause
            delay = line.take(count, now)
            assert taken <= rate * (now + delay - asked + SAVED_SECONDS) * (1 + 1e-9) + 1
            assert delay <= max(0.0, taken / rate) + 1e-6
            taken += count
    finally:
        line.close()


ANOTHER = """
import sys
from fastmpu._upload.bandwidth import Bandwidth
line = Bandwidth(1_000_000, int(sys.argv[1]))
for _ in range(500):
    line.take(1000, 1000.0)
"""


def test_where_memory_without_a_name_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in some sandboxes: a file that has no name any more does as well."""

    def refused(name: str) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    line = Bandwidth(1e6)
    try:
        assert line.take(1000, 5.0) <= 0.0
        assert "deleted" in os.readlink(f"/proc/self/fd/{line.fileno}")
    finally:
        line.close()


def test_threads_and_processes_share_one_limit() -> None:
    """The line is taken for exactly as long as all of them need together: no one's share is lost to another's."""
    line = Bandwidth(1_000_000)
    command = [sys.executable, "-c", ANOTHER, str(line.fileno)]
    processes = [subprocess.Popen(command, pass_fds=[line.fileno]) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [line.take(1000, 1000.0) for _ in range(500)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert line.take(1, 1000.0) == pytest.approx(4 * 500 * 1000 / 1_000_000 - SAVED_SECONDS)
    line.close()
    line.close()


@pytest.mark.parametrize("engine", ["inline", "thread", "process"])
@pytest.mark.parametrize("part_size", ["64KiB", "4MiB"], ids=["parts", "whole"])
def test_a_limited_upload_is_no_stalled_one(
    cluster: mock.Cluster, obj: fastmpu.Object, tmp_path: Path, engine: str, part_size: str
) -> None:
    """Waiting for one's turn is not the network's fault: no clock runs meanwhile; and the receipt tells of it."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4 * 256)
    timeouts = fastmpu.Timeouts(stall_bytes_per_second=10 * MIB, stall_seconds=0.02, write=0.2)
    with fastmpu.Client(cluster.endpoint, timeouts=timeouts) as client:
        target = client.bucket("bucket").object("limited")
        receipt = target.upload(path, part_size=part_size, max_bandwidth="1MB", engine=engine, processes=1)
    assert receipt.attempts == max(1, len(receipt.parts))
    assert receipt.stages.limit > 0
    assert "max_bandwidth" in receipt.verdict
    assert target.bucket.object("limited").name
    assert obj.bucket.object("limited").get_reader().read_all() == path.read_bytes()


def test_many_objects_share_the_limit(cluster: mock.Cluster, obj: fastmpu.Object) -> None:
    """Together they take as long as the limit says, at least: a lower bound that no slow machine can spoil."""
    began = time.monotonic()
    with fastmpu.Uploader(obj.bucket.client, max_bandwidth="2MB", max_concurrency=8) as uploader:
        transfers = [uploader.submit(bytes(50_000), f"{obj.bucket.uri}/{number}") for number in range(20)]
    seconds = time.monotonic() - began
    assert all(transfer.result().verified == "head" for transfer in transfers)
    assert seconds >= 20 * 50_000 / 2e6 - SAVED_SECONDS - 50_000 / 2e6


def test_cancel_does_not_wait_for_its_turn(obj: fastmpu.Object) -> None:
    """At this rate the second piece would come in 16 seconds."""
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        obj.upload(bytes(200 * KIB), max_bandwidth=1 * KIB, cancel=cancel, deadline=10)


def test_memory_bounds_what_is_in_flight(obj: fastmpu.Object, cluster: mock.Cluster, tmp_path: Path) -> None:
    """Fewer readers, and small buffers instead of maps; the receipt has what was left of the concurrency."""
    path = tmp_path / "file"
    path.write_bytes(bytes(24 * MIB))
    cluster.faults.add("latency(3, op=part)")
    receipt = obj.upload(path, part_size="1MiB", max_concurrency=16, max_memory="2MiB")
    assert (receipt.max_concurrency, receipt.read) == (2, "pread")
    assert cluster.truth.most_alive(cluster.truth.attempts(op="part")) == 2
    assert obj.get_reader().read_all() == path.read_bytes()


@pytest.mark.parametrize(
    ("given_options", "concurrency", "read"),
    [
        ({"max_memory": "80MiB"}, 16, "auto"),
        ({"max_memory": "79MiB"}, 16, "pread"),
        ({"max_memory": "16MiB"}, 16, "pread"),
        ({"max_memory": "3MiB"}, 3, "pread"),
        ({"max_memory": "14MiB", "read": "mmap"}, 2, "mmap"),
        ({"max_memory": "10GiB", "max_concurrency": 100}, 100, "auto"),
        ({"max_bandwidth": "1GB"}, 16, "auto"),
        ({"max_bandwidth": 32 * KIB}, 2, "auto"),
        ({"max_bandwidth": "2KiB"}, 1, "auto"),
    ],
)
def test_what_the_bounds_leave(given_options: dict[str, object], concurrency: int, read: str) -> None:
    left = bounded(fastmpu.UploadOptions.of(given_options))
    assert (left.max_concurrency, left.read) == (concurrency, read)


@pytest.mark.parametrize(
    ("given_options", "says"),
    [
        ({"max_memory": "512KiB"}, "max_memory=524288: one part in flight takes up to 1 MiB"),
        ({"max_memory": "2MiB", "read": "mmap"}, "takes up to 5 MiB"),
        ({"max_memory": 0}, "max_memory=0: it must be 1024 bytes or more"),
        ({"max_memory": "much"}, "max_memory='much' is not a size"),
        ({"max_bandwidth": 100}, "max_bandwidth=100: it must be 1024 bytes or more"),
        ({"max_bandwidth": -1}, "max_bandwidth=-1"),
        ({"max_bandwidth": 1.5}, "max_bandwidth=1.5 is not a size"),
        ({"trace": ""}, "trace=''"),
        ({"trace": 3}, "trace=3"),
    ],
)
def test_bounds_that_cannot_be(obj: fastmpu.Object, given_options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        obj.upload(b"data", **given_options)


def test_the_environment_has_them_too(obj: fastmpu.Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTMPU_MAX_MEMORY", "2MiB")
    monkeypatch.setenv("FASTMPU_MAX_BANDWIDTH", "100MB")
    monkeypatch.setenv("FASTMPU_TRACE", str(tmp_path / "trace.json"))
    assert obj.upload(b"data" * 1000).max_concurrency == 2
    assert (tmp_path / "trace.json").stat().st_size > 100
