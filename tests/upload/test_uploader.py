"""`Uploader`: many sources through one client and one set of threads, as its users see it and as the cluster does."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from interposer import Forward, Interposer
from interposer import refuse as refused

import fastmpu
from fastmpu import mock
from fastmpu.errors import Cancelled, InvalidNameError, SourceError, UsageError

KIB = 1 << 10
pytestmark = pytest.mark.usefixtures("no_journal")


@pytest.fixture
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMPU_JOURNAL", "off")


@pytest.fixture
def bucket(obj: fastmpu.Object) -> fastmpu.Bucket:
    """Behind the tap, where small objects have threads; in a lane of their own: test_small_lane.py."""
    return obj.bucket


def content(number: int, length: int) -> bytes:
    return bytes((number * 31 + at * 7) % 251 for at in range(length))


def files(directory: Path, sizes: Iterable[int]) -> dict[Path, bytes]:
    made = {}
    for number, size in enumerate(sizes):
        path = directory / f"{number:03}"
        made[path] = content(number, size)
        path.write_bytes(made[path])
    return made


@pytest.mark.parametrize("engine", ["auto", "inline"])
def test_many_small_files_cost_two_requests_each(
    bucket: fastmpu.Bucket, tap: Interposer, tmp_path: Path, engine: str
) -> None:
    """One to the proxy, without a body, and one to the target. That its answer is the proof takes a cluster map that is
    newer; one serves all that were stored before it was asked for."""
    made = files(tmp_path, [0, 1, *range(100, 12_100, 200)])
    with fastmpu.Uploader(bucket.client, max_concurrency=8, engine=engine) as uploader:
        transfers = {uploader.submit(path, f"{bucket.uri}/"): data for path, data in made.items()}
    assert tap.count("locate") == tap.count("put") == len(made)
    assert {wire.kind for wire in tap.wires} == {"bucket", "map", "locate", "put"}
    assert all(wire.length == 0 for wire in tap.of("locate"))
    assert tap.count("map") <= len(made) + 1
    for transfer, data in transfers.items():
        receipt = transfer.result()
        assert receipt.verified == "head"
        assert receipt.attempts == 1
        assert bucket.object(receipt.uri.rpartition("/")[2]).get_reader().read_all() == data


def test_large_and_small_share_the_bounds(bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path) -> None:
    """`max_concurrency` counts what all of them have in flight, and each gets what it is."""
    made = files(tmp_path, [90 * KIB, 100, 70 * KIB, 5_000, 10 * KIB + 1, 0, 130 * KIB, 300])
    cluster.faults.add("latency(4, op=part)")
    with fastmpu.Uploader(bucket.client, part_size="10KiB", max_concurrency=3) as uploader:
        transfers = {uploader.submit(path, f"{bucket.uri}/"): (path, data) for path, data in made.items()}
    for transfer, (path, data) in transfers.items():
        receipt = transfer.result()
        assert receipt.checksum
        assert len(receipt.parts) == (-(-len(data) // (10 * KIB)) if len(data) > 10 * KIB else 0)
        assert bucket.object(path.name).get_reader().read_all() == data
    bodies = [each for each in cluster.truth.attempts() if each.op in ("put", "part") and each.announced > 0]
    assert 1 < cluster.truth.most_alive(bodies) <= 3
    assert cluster.truth.violations() == []


def test_worker_processes_one_large_file_after_the_other(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path
) -> None:
    made = files(tmp_path, [50 * KIB, 60 * KIB])
    with fastmpu.Uploader(endpoint=cluster.endpoint, part_size="16KiB", engine="process", processes=1) as uploader:
        transfers = [uploader.submit(path, f"{bucket.uri}/") for path in made]
        for transfer in concurrent.futures.as_completed(transfers):
            assert transfer.result().engine == "process"
    for path, data in made.items():
        assert bucket.object(path.name).get_reader().read_all() == data


def test_one_that_fails_leaves_the_others_alone(bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """What comes of a source is its transfer's; leaving the block does not raise it."""
    with fastmpu.Uploader(bucket.client) as uploader:
        missing = uploader.submit(tmp_path / "missing", f"{bucket.uri}/missing")
        good = uploader.submit(b"good", f"{bucket.uri}/good")
    with pytest.raises(SourceError, match="missing"):
        missing.result()
    error = missing.exception()
    assert error is not None
    assert isinstance(error.__cause__, FileNotFoundError)
    assert good.result().size == 4
    assert bucket.object("good").get_reader().read_all() == b"good"


def test_bad_input_is_refused_when_it_is_given(bucket: fastmpu.Bucket, tap: Interposer) -> None:
    with tap.silence():
        with pytest.raises(UsageError, match="max_concurrency=0"):
            fastmpu.Uploader(bucket.client, max_concurrency=0)
        with pytest.raises(UsageError, match="unknown option 'colour'"):
            fastmpu.Uploader(bucket.client, colour="red")
        with pytest.raises(UsageError, match="trace="):
            fastmpu.Uploader(bucket.client, trace="/nowhere/at/all")
        with fastmpu.Uploader(bucket.client) as uploader:
            with pytest.raises(InvalidNameError):
                uploader.submit(b"x", "ais://bucket/a//b")
            with pytest.raises(InvalidNameError, match="bytes has no name"):
                uploader.submit(b"x", "ais://bucket/")
            with pytest.raises(UsageError, match="progress=3"):
                uploader.submit(b"x", "ais://bucket/a", progress=3)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="closed"):
            uploader.submit(b"x", "ais://bucket/a")
        uploader.close()


class Gate:
    """An action that holds requests until it is opened; `reached` says that one is there."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, request: httpx.Request, forward: Forward) -> httpx.Response:
        self.reached.set()
        assert self.opened.wait(30)
        return forward(request)


@pytest.mark.parametrize("fault", [None, "reset_at(op=put, byte=1000, times=always)"])
def test_what_has_ended_keeps_nothing_of_its_file(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path, fault: str | None
) -> None:
    """Whoever keeps a million Transfers, and errors, keeps no million files, even if the collector never comes."""
    made = files(tmp_path, [64 * KIB] * 20)
    if fault is not None:
        cluster.faults.add(fault)
    gc.disable()
    tracemalloc.start()
    try:
        # Not through the tap, which keeps what it has seen.
        once = fastmpu.RetryPolicy(attempts=1)
        with fastmpu.Uploader(endpoint=cluster.endpoint, max_concurrency=2, retry=once) as uploader:
            transfers = [uploader.submit(path, f"{bucket.uri}/") for path in made]
        ours = [tracemalloc.Filter(True, "*/fastmpu/_*/*")]
        held = sum(each.size for each in tracemalloc.take_snapshot().filter_traces(ours).traces)
    finally:
        tracemalloc.stop()
        gc.enable()
    ended = ("done", 64 * KIB) if fault is None else ("send", 0)
    assert [(transfer.snapshot().stage, transfer.snapshot().acked) for transfer in transfers] == [ended] * len(made)
    assert held < len(made) * 64 * KIB / 2


class Data(bytearray):
    """Of which one can see that nobody has it any more."""


def holders() -> list[object]:
    """All that there is of what works on a source."""
    kinds = {"Upload", "WholePut", "PartsRun", "PartTask", "File", "Buffer"}
    return [each for each in gc.get_objects() if type(each).__name__ in kinds]


@pytest.mark.parametrize("part_size", ["1MiB", "16KiB"])
@pytest.mark.parametrize("there", [True, False])
def test_what_has_ended_keeps_nothing_of_its_source(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, there: bool, part_size: str
) -> None:
    """Whole or in parts; neither does what has failed, whose error is kept with the Transfer."""
    gc.collect()
    gc.disable()
    before = holders()
    try:
        with fastmpu.Uploader(
            endpoint=cluster.endpoint, part_size=part_size, multipart_threshold=part_size
        ) as uploader:
            sources = [Data(content(number, 50_000)) for number in range(4)]
            left = [weakref.ref(source) for source in sources]
            transfers = [
                uploader.submit(source, f"ais://{bucket.name if there else 'not-there'}/{number}")
                for number, source in enumerate(sources)
            ]
            del sources
        assert [transfer.exception() is None for transfer in transfers] == [there] * 4
        assert [source() for source in left] == [None] * 4
        assert [each for each in holders() if not any(each is other for other in before)] == []
    finally:
        gc.enable()


def test_cancel_what_runs_and_what_waits(bucket: fastmpu.Bucket, tap: Interposer, cluster: mock.Cluster) -> None:
    """The one ends its attempts and aborts, the other never begins; a third is not concerned."""
    gate = Gate()
    tap.on("part", gate)
    with fastmpu.Uploader(bucket.client, part_size="1KiB", multipart_threshold="1KiB", max_concurrency=1) as uploader:
        running = uploader.submit(content(1, 5 * KIB), f"{bucket.uri}/running")
        assert gate.reached.wait(30)
        waiting = uploader.submit(b"waiting", f"{bucket.uri}/waiting")
        third = uploader.submit(b"third", f"{bucket.uri}/third")
        assert waiting.snapshot().stage == "waiting"
        assert running.snapshot().total == 5 * KIB
        assert running.snapshot().stage == "send"
        assert running.cancel()
        assert waiting.cancel()
        gate.opened.set()
        for each in (running, waiting):
            with pytest.raises(Cancelled):
                each.result()
        assert third.result().size == 5
        assert not third.cancel()
        assert third.snapshot().stage == "done"
    assert [wire.path for wire in tap.of("put")] == ["/v1/objects/bucket/third"]
    assert tap.count("abort") == 1
    assert cluster.stored_bytes == 5


@pytest.mark.usefixtures("nothing_left")
def test_an_exception_cancels_all_and_waits_for_them(bucket: fastmpu.Bucket, tap: Interposer) -> None:
    """No thread, file or part of theirs is left, and what was raised is what is seen."""
    gate = Gate()
    tap.on("part", gate)
    transfers: list[fastmpu.Transfer] = []

    def fail_meanwhile() -> None:
        with fastmpu.Uploader(bucket.client, part_size="1KiB", max_concurrency=4) as uploader:
            transfers.extend(uploader.submit(content(number, 9 * KIB), f"{bucket.uri}/{number}") for number in range(6))
            assert gate.reached.wait(30)
            threading.Timer(0.05, gate.opened.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_meanwhile()
    for transfer in transfers:
        with pytest.raises(Cancelled):
            transfer.result(timeout=0)
    assert tap.count("complete") == 0


def test_a_stale_redirect_misplaces_no_small_object(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """S8: a target takes any put that comes with a marker, and answers 200. Where its map says that another one owns
    the name, the client looks whether the object can be found, and puts it again."""
    receipts = []
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as uploader:
        for number in range(12):
            with cluster.faults.add("stale_owner(op=put)"):
                receipts.append(uploader.submit(content(number, 500), f"{bucket.uri}/{number}").result())
    for number, receipt in enumerate(receipts):
        assert receipt.verified == "head"
        assert bucket.object(f"{number}").get_reader().read_all() == content(number, 500)
    assert {receipt.attempts for receipt in receipts} == {2}


def test_a_map_that_has_moved_on_is_fetched_anew(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, tap: Interposer
) -> None:
    """An owner that our map does not have is no reason to look at each object from then on."""
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as uploader:
        uploader.submit(b"before", f"{bucket.uri}/before").result()
        cluster.targets[0].maintain()
        for number in range(20):
            uploader.submit(b"after", f"{bucket.uri}/{number}").result()
    assert tap.count("head") == 0
    assert all(bucket.object(f"{number}").get_reader().read_all() == b"after" for number in range(20))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_owner_that_moves_meanwhile_loses_no_small_object(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, when: str
) -> None:
    """The proxy named the owner, and before the put was stored there the name became another's: nobody would find it.
    A map from after the put tells, and it is put again."""
    with fastmpu.Uploader(bucket.client, max_concurrency=1) as uploader:
        for number in range(8):
            with cluster.faults.add(f"move_owner(op=put, when={when}, ms=150)"):
                uploader.submit(content(number, 500), f"{bucket.uri}/{number}").result()
                assert bucket.object(f"{number}").get_reader().read_all() == content(number, 500)


def test_what_the_cluster_asks_to_slow_down_is_told_to_all(bucket: fastmpu.Bucket, tap: Interposer) -> None:
    """A 429 of one small put is waited out within the policy; nothing is lost."""
    tap.on("locate", refused(429, "ErrRateLimitFrontend", "Too Many Requests"), times=3)
    retry = fastmpu.RetryPolicy(base=0.001)
    with fastmpu.Uploader(bucket.client, retry=retry, max_concurrency=2) as uploader:
        transfers = [uploader.submit(b"data", f"{bucket.uri}/{number}") for number in range(10)]
    assert all(transfer.result().verified == "head" for transfer in transfers)


def test_an_uploader_of_its_own_client(cluster: mock.Cluster, obj: fastmpu.Object) -> None:
    """Made from an endpoint, and closed with it."""
    seen: list[fastmpu.ProgressEvent] = []
    with fastmpu.Uploader(endpoint=cluster.endpoint) as uploader:
        transfer = uploader.submit(b"data", obj.uri, progress=seen.append)
        assert "Uploader open" in repr(uploader)
        assert obj.uri in repr(transfer)
    assert transfer.result().uri == obj.uri
    assert seen[-1].stage == "done"
    assert obj.get_reader().read_all() == b"data"
    assert "closed" in repr(uploader)
