"""Small objects of an `Uploader` that are stored and wait for a newer cluster map: nobody else waits for them, and
whatever becomes of the map, each ends proved or says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._upload import proofs, uploader
from fastmpu.errors import Cancelled

DATA = b"small" * 100


@pytest.fixture(params=["small lane", "lanes"])
def bucket(
    request: pytest.FixtureRequest, cluster: mock.Cluster, obj: fastmpu.Object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[fastmpu.Bucket]:
    """Behind fastmpu's own transport, and behind one that others have added to, where each waits in its own thread."""
    monkeypatch.setenv("FASTMPU_JOURNAL", "off")
    with fastmpu.Client(cluster.endpoint, timeouts=fastmpu.Timeouts(fence=0.05)) as own:
        bucket = own.bucket("bucket") if request.param == "small lane" else obj.bucket
        bucket.head()  # so that the first map, before anything is stored, is behind us
        yield bucket


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("fastmpu")] == []


def maps(cluster: mock.Cluster) -> list[mock.Record]:
    return cluster.truth.attempts(op="map")


def puts_before(cluster: mock.Cluster, record: mock.Record) -> int:
    """How many had reached their target when that answer was given."""
    assert record.ended is not None
    return len([put for put in cluster.truth.attempts(op="put", where="target") if put.started < record.ended])


def test_a_lane_does_not_wait_for_a_map(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """One lane: it stores the others while the map for the first one is on its way, and that one map later ends them
    all, being newer than they are."""
    cluster.truth.clear()
    cluster.faults.add("latency(1000, op=map)")
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as upload:
        transfers = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(10)]
    assert {transfer.result().verified for transfer in transfers} == {"head"}
    first = maps(cluster)[0]
    assert puts_before(cluster, first) == 10
    assert len(maps(cluster)) <= 4
    assert cluster.truth.attempts(op="head") == []


def test_no_more_than_some_are_parked(bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path) -> None:
    """Each has its file open: a lane waits when so many wait for their proof."""
    cluster.truth.clear()
    cluster.faults.add("latency(1500, op=map)")
    files = [tmp_path / f"{number}" for number in range(3 * uploader.LEAST_HELD)]
    for path in files:
        path.write_bytes(DATA)
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as upload:
        transfers = [upload.submit(path, f"{bucket.uri}/") for path in files]
    assert {transfer.result().verified for transfer in transfers} == {"head"}
    # The first, those that are parked while its map is on its way, and one in the lane.
    assert uploader.LEAST_HELD <= puts_before(cluster, maps(cluster)[0]) <= uploader.LEAST_HELD + 2


def test_one_alone_does_not_wait_for_others(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submits and waits, again and again, is told as soon as a map is there."""
    monkeypatch.setattr(proofs, "PAUSE", 60.0)
    with fastmpu.Uploader(bucket.client) as upload:
        for number in range(3):
            assert upload.submit(DATA, f"{bucket.uri}/{number}").result(timeout=30).verified == "head"


def test_one_that_fails_keeps_nobody_waiting(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who might have come along and did not: a file that is missing, and a large one."""
    monkeypatch.setattr(proofs, "PAUSE", 60.0)
    with fastmpu.Uploader(bucket.client, part_size="1KiB", max_concurrency=2) as upload:
        upload.submit(DATA, f"{bucket.uri}/first").result(timeout=30)
        large = upload.submit(DATA * 20, f"{bucket.uri}/large")
        missing = upload.submit(tmp_path / "missing", f"{bucket.uri}/missing")
        small = upload.submit(DATA, f"{bucket.uri}/small")
        assert small.result(timeout=30).verified == large.result(timeout=30).verified == "head"
        assert isinstance(missing.exception(timeout=30), fastmpu.FastMPUError)


@pytest.mark.parametrize("engine", ["auto", "inline"])
def test_without_a_map_the_objects_themselves_are_asked(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, engine: str
) -> None:
    cluster.faults.add("status(500, op=map, times=always)")
    with fastmpu.Uploader(bucket.client, max_concurrency=2, engine=engine) as upload:
        transfers = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(6)]
    assert {transfer.result().verified for transfer in transfers} == {"head"}
    assert len(cluster.truth.attempts(op="head")) == 6


def test_what_is_not_where_it_belongs_is_put_again_after_the_lanes_have_ended(
    bucket: fastmpu.Bucket, cluster: mock.Cluster
) -> None:
    """The uploader is closed while the map is on its way; the map then shows that both went to the wrong target."""
    cluster.faults.add("latency(500, op=map)")
    cluster.faults.add("stale_owner(op=put, times=2)")
    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        transfers = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(2)]
    assert [transfer.result().attempts for transfer in transfers] == [2, 2]
    assert all(bucket.object(f"{number}").get_reader().read_all() == DATA for number in range(2))


def test_a_slow_callback_holds_up_nobody_else(bucket: fastmpu.Bucket) -> None:
    """And may wait for another transfer."""
    others: list[str] = []
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as upload:
        first = upload.submit(DATA, f"{bucket.uri}/first")
        first.result()
        slow = upload.submit(DATA, f"{bucket.uri}/slow")
        later: list[fastmpu.Transfer] = []
        all_there = threading.Event()

        def wait_for_the_others(_: object) -> None:
            assert all_there.wait(30)
            others.extend(each.result(timeout=30).verified for each in later)

        slow.add_done_callback(wait_for_the_others)
        later += [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(5)]
        all_there.set()
    assert others == ["head"] * 5


def test_many_callbacks_wait_for_others(bucket: fastmpu.Bucket) -> None:
    """More than there are threads for them, for one whose progress is told as well: nothing but further callbacks
    waits for them."""
    told: list[str] = []
    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        all_there = threading.Event()
        last: list[fastmpu.Transfer] = []

        def wait_for_the_last(_: object) -> None:
            assert all_there.wait(30)
            told.append(last[0].result(timeout=30).verified)

        for number in range(uploader.CALLERS + 4):
            upload.submit(DATA, f"{bucket.uri}/{number}").add_done_callback(wait_for_the_last)
        last.append(upload.submit(DATA, f"{bucket.uri}/last", progress=lambda _: None))
        all_there.set()
    assert told == ["head"] * (uploader.CALLERS + 4)


def test_a_callback_that_fails_is_logged(
    bucket: fastmpu.Bucket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes after the end; and so is a progress function, wherever it is called. No one else is hurt, and
    none is called twice, though no thread can be started for it."""

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    called: list[str] = []

    def fail(what: object) -> None:
        called.append(type(what).__name__)
        raise ValueError("of the user's")

    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        upload.submit(DATA, f"{bucket.uri}/first").result()
        monkeypatch.setattr(upload._callers, "_adjust_thread_count", refuse)
        transfer = upload.submit(DATA, f"{bucket.uri}/second", progress=fail)
        transfer.add_done_callback(fail)
        assert transfer.result().verified == "head"
        transfer.add_done_callback(fail)
    assert called.count("Transfer") == 2
    assert called.count("ProgressEvent") == 1  # it is not called again
    assert sum("failed" in each.getMessage() for each in caplog.records) == 3


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_is_not_where_it_belongs_finds_a_lane(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, concurrency: int
) -> None:
    """The block is left at once; all lanes are at work or wait for room when it turns out, and as many wait as may."""
    cluster.faults.add("latency(300, op=map)")
    cluster.faults.add("stale_owner(op=put, times=5)")
    with fastmpu.Uploader(bucket.client, max_concurrency=concurrency) as upload:
        transfers = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(100)]
    attempts = [transfer.result(timeout=0).attempts for transfer in transfers]
    assert sorted(attempts, reverse=True)[:6] == [2, 2, 2, 2, 2, 1]
    assert all(bucket.object(f"{number}").get_reader().read_all() == DATA for number in range(100))
    assert len(cluster.truth.attempts(op="head")) < 20


@pytest.mark.parametrize("why", ["no map", "no map, and late", "slow callbacks"])
def test_files_do_not_pile_up(bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path, why: str) -> None:
    """Whatever those that are stored wait for, as many have their file open as may be held and are sent."""
    if why.startswith("no map"):
        cluster.faults.add("status(500, op=map, times=always)")
    if why.endswith("late"):  # as many are held as may, all of them doubtful, and all lanes wait for room
        cluster.faults.add("latency(200, op=map, times=always)")
    files = [tmp_path / f"{number}" for number in range(150)]
    for path in files:
        path.write_bytes(DATA)
    most: list[int] = []

    def look(_: object) -> None:
        open_ones = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        most.append(sum(each.startswith(str(tmp_path)) for each in open_ones))
        time.sleep(0.01 if why == "slow callbacks" else 0)

    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        transfers = [upload.submit(path, f"{bucket.uri}/") for path in files]
        for transfer in transfers:
            transfer.add_done_callback(look)
        assert {transfer.result().verified for transfer in transfers} == {"head"}
    assert max(most) <= uploader.LEAST_HELD + 2 + 2


@pytest.mark.parametrize("engine", ["auto", "inline"])
def test_a_token_function_that_fails_hangs_nobody(cluster: mock.Cluster, bucket: fastmpu.Bucket, engine: str) -> None:
    """It is asked for another token by the map's 401; without a map the objects themselves are asked."""
    tokens = ["first"]

    with fastmpu.Uploader(endpoint=cluster.endpoint, token=tokens.pop, max_concurrency=2, engine=engine) as upload:
        upload.submit(DATA, f"{bucket.uri}/first").result(timeout=30)
        cluster.faults.add("status(401, op=map, times=always)")
        assert upload.submit(DATA, f"{bucket.uri}/second").result(timeout=30).verified == "head"
    assert len(cluster.truth.attempts(op="head")) == 1


FORKS = """
import os, sys, fastmpu
endpoint = sys.argv[1]
with fastmpu.Client(endpoint) as client, fastmpu.Uploader(client, max_concurrency=1) as uploader:
    transfers = [uploader.submit(b"data", f"ais://bucket/{number}") for number in range(3)]
    child = os.fork()
    if not child:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    print([transfer.result().verified for transfer in transfers])
"""


def test_a_forked_child_leaves_the_block_at_once(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """What is under way is its parent's, which goes on."""
    cluster.faults.add("latency(1000, op=map, times=3)")
    command = [sys.executable, "-W", "ignore", "-c", FORKS, cluster.endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "['head', 'head', 'head']"), done.stderr


def test_what_is_stored_is_not_cancelled(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """Those that wait for their proof get it; those that wait for their turn do not begin."""
    cluster.truth.clear()
    cluster.faults.add("latency(500, op=map)")
    cluster.faults.add("latency(300, op=put, where=target, times=always)")
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as upload:
        stored = upload.submit(DATA, f"{bucket.uri}/stored")
        waiting = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(5)]
        while not maps(cluster):
            assert not stored.done()
        assert stored.snapshot().stage == "verify"
        upload.cancel()
    assert stored.result().verified == "head"
    assert [isinstance(each.exception(), Cancelled) for each in waiting].count(True) >= 4
