"""Small objects of an `Uploader` over fastmpu's own transport: many under way at once in one thread, and nobody is held
up, lost or told too much.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import fastmpu
from fastmpu import mock
from fastmpu._source import mapped_file
from fastmpu._transport import pause, waiter
from fastmpu._upload import uploader
from fastmpu._upload.small_lane import SmallLane
from fastmpu._upload.workers import Places
from fastmpu.errors import Cancelled

DATA = b"small" * 100


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("fastmpu")] == []
    if files:
        assert len(os.listdir("/proc/self/fd")) <= files


@pytest.fixture
def bucket(cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[fastmpu.Bucket]:
    monkeypatch.setenv("FASTMPU_JOURNAL", "off")
    timeouts = fastmpu.Timeouts(response=5.0, fence=0.05)
    with fastmpu.Client(cluster.endpoint, timeouts=timeouts) as client:
        yield client.bucket("bucket").create()


def lanes() -> set[str]:
    """The threads that send."""
    return {each.name for each in threading.enumerate() if each.name.startswith(("fastmpu_", "fastmpu-small"))}


def files(directory: Path, count: int) -> dict[Path, bytes]:
    made = {directory / f"{number:03}": random.Random(number).randbytes(number * 97 % 5_000) for number in range(count)}
    for path, data in made.items():
        path.write_bytes(data)
    return made


def test_one_thread_has_many_under_way(bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path) -> None:
    """As many as may be, and no more."""
    made = files(tmp_path, 60)
    cluster.faults.add("latency(20, op=put, times=always)")
    cluster.truth.clear()
    seen: set[str] = set()
    with fastmpu.Uploader(bucket.client, max_concurrency=6) as upload:
        transfers = {upload.submit(path, f"{bucket.uri}/"): path for path in made}
        while not all(transfer.done() for transfer in transfers):
            seen |= lanes()
            time.sleep(0.005)
    assert seen == {"fastmpu-small_0"}
    puts = cluster.truth.attempts(op="put")
    assert len(puts) == len(made)
    assert 3 <= cluster.truth.most_alive(puts) <= 6
    for transfer, path in transfers.items():
        assert transfer.result().verified == "head"
        assert bucket.object(path.name).get_reader().read_all() == made[path]


def test_with_large_ones_they_share_what_may_be_in_flight(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path
) -> None:
    made = files(tmp_path, 40)
    large = {tmp_path / f"large{number}": random.Random(number).randbytes(200_000) for number in range(3)}
    for path, data in large.items():
        path.write_bytes(data)
    cluster.faults.add("latency(5, op=put, times=always)")
    cluster.faults.add("latency(5, op=part, times=always)")
    cluster.truth.clear()
    with fastmpu.Uploader(bucket.client, part_size="10KiB", max_concurrency=3) as upload:
        mixed = [*made, *large]
        random.Random(7).shuffle(mixed)
        transfers = {upload.submit(path, f"{bucket.uri}/"): path for path in mixed}
    for transfer, path in transfers.items():
        transfer.result()
        assert bucket.object(path.name).get_reader().read_all() == (made | large)[path]
    bodies = [each for each in cluster.truth.attempts() if each.op in ("put", "part") and each.announced > 0]
    assert cluster.truth.most_alive(bodies) <= 3


@pytest.mark.parametrize(
    "fault",
    [
        "latency(2500, op=put, name=first)",
        "status(503, op=put, name=first)",
        "status(429, op=put, name=first)",
        "fin_at(0, op=put, name=first)",
        "status(503, where=proxy, op=put, name=first)",
    ],
)
def test_one_that_waits_holds_up_nobody(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """For its answer, or for another try: the others end before it goes on."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)  # how long a retry waits
    cluster.faults.add(fault)
    retry = fastmpu.RetryPolicy(base=2.5, cap=2.5)
    with fastmpu.Uploader(bucket.client, max_concurrency=3, retry=retry) as upload:
        first = upload.submit(DATA, f"{bucket.uri}/first")
        rest = [upload.submit(DATA + bytes([number]), f"{bucket.uri}/{number}") for number in range(50)]
        for transfer in rest:
            transfer.result(timeout=60)
        assert not first.done()
        assert first.result(timeout=60).verified == "head"
    assert bucket.object("first").get_reader().read_all() == DATA


def test_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMPU_JOURNAL", "off")
    with (
        mock.Cluster(targets=3, tls="self-made") as cluster,
        fastmpu.Client(cluster.endpoint, ca_file=cluster.ca_file) as client,
    ):
        bucket = client.bucket("bucket").create()
        with fastmpu.Uploader(client, max_concurrency=4) as upload:
            transfers = [upload.submit(DATA + bytes([number]), f"{bucket.uri}/{number}") for number in range(30)]
        assert {transfer.result().verified for transfer in transfers} == {"head"}
        assert all(bucket.object(f"{n}").get_reader().read_all() == DATA + bytes([n]) for n in range(30))


@pytest.mark.parametrize("when", ["at once", "later"])
def test_cancel(bucket: fastmpu.Bucket, cluster: mock.Cluster, when: str) -> None:
    cluster.faults.add("latency(60000, op=put, times=always)")
    began = time.monotonic()
    with fastmpu.Uploader(bucket.client, max_concurrency=4) as upload:
        transfers = [upload.submit(DATA, f"{bucket.uri}/{number}") for number in range(40)]
        if when == "later":
            while not cluster.truth.attempts(op="put"):
                time.sleep(0.01)
        upload.cancel()
        for transfer in transfers:
            with pytest.raises(Cancelled):
                transfer.result(timeout=30)
    assert time.monotonic() - began < 30


def test_a_token_function_may_take_a_lock_and_ask_others(cluster: mock.Cluster) -> None:
    """Two of one thread are refused at once: the function that is asked for another token has the thread to itself."""
    lock = threading.Lock()
    tokens = iter(["first", "second", "third", "fourth"])
    with fastmpu.Client(cluster.endpoint) as other:
        other.bucket("bucket").create()

        def token() -> str:
            assert waiter() is None
            with lock:
                other.bucket("bucket").head()
                return next(tokens)

        with fastmpu.Uploader(endpoint=cluster.endpoint, token=token, max_concurrency=4) as upload:
            upload.submit(DATA, "ais://bucket/0").result(timeout=30)
            for number in (1, 2):
                cluster.faults.add(f"status(401, op=put, name={number})")
            transfers = [upload.submit(DATA, f"ais://bucket/{number}") for number in range(1, 8)]
            assert {transfer.result(timeout=30).verified for transfer in transfers} == {"head"}


@pytest.mark.parametrize("slow", [False, True])
def test_what_is_not_in_memory_is_read_by_others(
    bucket: fastmpu.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """A disk that does not answer holds up its own file only."""
    made = files(tmp_path, 20)
    first = next(iter(made))
    released = threading.Event()
    readers: set[str] = set()
    preadv = os.preadv

    def reading(fd: int, buffers: list[memoryview], offset: int, *flags: int) -> int:
        readers.add(threading.current_thread().name.rstrip("0123456789"))
        if slow and os.path.realpath(f"/proc/self/fd/{fd}") == str(first):
            assert released.wait(30)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(mapped_file, "_NOWAIT", None)
    monkeypatch.setattr(os, "preadv", reading)
    made[first] = DATA
    first.write_bytes(DATA)
    with fastmpu.Uploader(bucket.client, max_concurrency=4) as upload:
        transfers = {upload.submit(path, f"{bucket.uri}/"): path for path in made}
        rest = [transfer for transfer, path in transfers.items() if path != first]
        for transfer in rest:
            assert transfer.result(timeout=30).verified == "head"
        released.set()
    assert readers == {"fastmpu-read_"}
    for transfer, path in transfers.items():
        transfer.result(timeout=0)
        assert bucket.object(path.name).get_reader().read_all() == made[path]


@pytest.mark.parametrize("why", ["progress", "another host", "trace"])
def test_who_may_take_long_has_a_thread_of_its_own(
    bucket: fastmpu.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A user's function, a file of a network's file system; and a trace shows one thing after the other."""
    made = files(tmp_path, 5)
    seen: set[str] = set()
    if why == "another host":
        monkeypatch.setattr(uploader, "is_local", lambda path: False)
    options = {"trace": str(tmp_path / "trace.json")} if why == "trace" else {}
    progress: Callable[[object], object] | None = (lambda event: time.sleep(0.01)) if why == "progress" else None
    with fastmpu.Uploader(bucket.client, max_concurrency=2, **options) as upload:
        transfers = [upload.submit(path, f"{bucket.uri}/", progress=progress) for path in made]
        for transfer in transfers:
            transfer.result(timeout=30)
            seen |= lanes()
    assert any(name.startswith("fastmpu_") for name in seen)


def test_callbacks_come_from_other_threads(bucket: fastmpu.Bucket) -> None:
    """So that they may wait for what the small lane does."""
    names: set[str] = set()
    called = threading.Event()
    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        first = upload.submit(DATA, f"{bucket.uri}/first")

        def another(_: object) -> None:
            names.add(threading.current_thread().name.rstrip("0123456789"))
            upload.submit(DATA, f"{bucket.uri}/second").result(timeout=30)
            called.set()

        first.add_done_callback(another)
        assert called.wait(30)
    assert names <= {"fastmpu-call_", "MainThread"}
    assert bucket.object("second").get_reader().read_all() == DATA


def test_it_begins_again_after_a_rest(bucket: fastmpu.Bucket) -> None:
    with fastmpu.Uploader(bucket.client) as upload:
        for number in range(20):
            assert upload.submit(DATA, f"{bucket.uri}/{number}").result(timeout=30).verified == "head"
            time.sleep(random.Random(number).random() * 0.01)


def test_users_functions_never_run_in_the_small_lane(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """Not those of doubtful objects from other lanes either, which it may be the one to look at. One waits for another
    transfer, which only the small lane can send."""
    cluster.faults.add("status(500, op=map, times=always)")
    once = threading.Lock()
    names: set[str] = set()
    with fastmpu.Uploader(bucket.client, max_concurrency=4) as upload:

        def called(_: object) -> None:
            names.add(threading.current_thread().name.rstrip("0123456789"))
            assert waiter() is None
            if once.acquire(blocking=False):
                upload.submit(DATA, f"{bucket.uri}/more").result(timeout=60)

        transfers = []
        for number in range(200):
            slow = number % 5 == 0  # these have a lane of their own
            data = DATA + bytes([number])
            transfer = upload.submit(data, f"{bucket.uri}/{number}", progress=called if slow else None)
            transfer.add_done_callback(called)
            transfers.append(transfer)
        assert {transfer.result(timeout=60).verified for transfer in transfers} == {"head"}
    assert not any(name.startswith("fastmpu-small") for name in names)


def test_a_slow_lookup_of_a_name_holds_up_nobody(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request to one target waits for its name; the others' objects arrive meanwhile."""
    released = threading.Event()
    lookup = socket.getaddrinfo
    slow: set[int] = set()

    def getaddrinfo(host: str, port: int, *rest: object, **more: int) -> object:
        if port in slow:
            assert released.wait(60)
        return lookup(host, port, *rest, **more)  # type: ignore[arg-type]

    with fastmpu.Uploader(bucket.client, max_concurrency=24) as upload:
        first = [upload.submit(DATA, f"{bucket.uri}/first{number}") for number in range(4)]
        assert {transfer.result(timeout=30).verified for transfer in first} == {"head"}
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        endpoint = bucket.client.endpoint
        slow.add(min(each.port for each in endpoint.cluster_map().members if each != endpoint.origin))
        endpoint.drop_idle()
        transfers = [upload.submit(DATA + bytes([number]), f"{bucket.uri}/{number}") for number in range(24)]
        deadline = time.monotonic() + 30
        while sum(transfer.done() for transfer in transfers) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        some = sum(transfer.done() for transfer in transfers)
        released.set()
        assert some >= 4
        assert {transfer.result(timeout=30).verified for transfer in transfers} == {"head"}


def test_an_uploader_that_is_dropped_leaves_nothing_open(bucket: fastmpu.Bucket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for engine in ("auto", "inline"):
        for _ in range(5):
            fastmpu.Uploader(bucket.client, engine=engine)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_lane_that_fails_tells_everybody(
    bucket: fastmpu.Bucket, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known to make it fail; but a Transfer must never be silent."""
    cluster.faults.add("latency(60000, op=put, times=2)")
    with fastmpu.Uploader(bucket.client, max_concurrency=2) as upload:
        transfers = [upload.submit(DATA + bytes([number]), f"{bucket.uri}/{number}") for number in range(4)]
        while len(cluster.truth.attempts(op="put")) < 2:
            time.sleep(0.01)

        def fails(lane: SmallLane) -> None:
            monkeypatch.undo()
            raise OSError("no poll")

        monkeypatch.setattr(SmallLane, "_wait", fails)
        for transfer in transfers[:2]:
            with pytest.raises(RuntimeError, match="no poll"):
                transfer.result(timeout=30)
        assert {transfer.result(timeout=30).verified for transfer in transfers[2:]} == {"head"}


def test_a_file_that_grows_large_before_its_turn(bucket: fastmpu.Bucket, cluster: mock.Cluster, tmp_path: Path) -> None:
    """It goes in parts, each once, from the small lane, as it would from another."""
    cluster.faults.add("latency(500, op=put, name=first)")
    path = tmp_path / "grown"
    path.write_bytes(DATA)
    with fastmpu.Uploader(bucket.client, part_size="10KiB", max_concurrency=1) as upload:
        first = upload.submit(DATA, f"{bucket.uri}/first")
        grown = upload.submit(path, f"{bucket.uri}/")
        after = upload.submit(DATA, f"{bucket.uri}/after")
        while not cluster.truth.attempts(op="put"):
            time.sleep(0.001)
        data = random.Random(5).randbytes(95_000)
        path.write_bytes(data)
        assert len(grown.result(timeout=60).parts) == 10
        assert first.result(timeout=60).verified == after.result(timeout=60).verified == "head"
    assert bucket.object("grown").get_reader().read_all() == data
    assert len(cluster.truth.attempts(op="part")) == 10
    assert cluster.truth.violations() == []


def test_an_error_of_the_network_still_has_its_request(bucket: fastmpu.Bucket, cluster: mock.Cluster) -> None:
    """As httpx's errors do; without the token."""
    with fastmpu.Client(cluster.endpoint, token="a.very.secret-token") as client:
        client.bucket("bucket").head()
        cluster.faults.add("fin_at(0, op=put)")
        with pytest.raises(fastmpu.errors.TransportError) as caught:
            client.bucket("bucket").object("x").put(DATA)
    cause = caught.value.__cause__
    assert isinstance(cause, httpx.TransportError)
    assert (cause.request.method, "authorization" in cause.request.headers) == ("PUT", False)


# --- the lane itself


@pytest.fixture
def lane() -> Iterator[SmallLane]:
    lane = SmallLane(Places(4), lambda: True)
    yield lane
    lane.close()
    lane.close()


def test_waits_end_in_the_order_of_what_comes(lane: SmallLane) -> None:
    """Sockets that become readable in any order, pauses of any length, and work elsewhere, all in one thread."""
    chance = random.Random(1)
    pairs = [socket.socketpair() for _ in range(20)]
    got: dict[int, object] = {}
    threads: set[int] = set()
    done = threading.Semaphore(0)

    def task(number: int) -> None:
        threads.add(threading.get_ident())
        ours = waiter()
        assert ours is lane
        pause(chance.random() * 0.01)
        assert lane.ready(pairs[number][0].fileno(), 1, 0.001) in (0, 1)
        got[number] = (lane.ready(pairs[number][0].fileno(), 1, 30.0), lane.in_another_thread(lambda: number * 2))
        done.release()

    for number in range(20):
        lane.submit(lambda number=number: task(number))  # type: ignore[misc]
    order = list(range(20))
    chance.shuffle(order)
    for number in order:
        pairs[number][1].send(b"x")
    for _ in order:
        assert done.acquire(timeout=30)
    for pair in pairs:
        for end in pair:
            end.close()
    assert got == {number: (1, number * 2) for number in range(20)}
    assert len(threads) == 1


def test_what_fails_elsewhere_fails_here(lane: SmallLane) -> None:
    failed: list[str] = []
    done = threading.Event()

    def task() -> None:
        try:
            lane.in_another_thread(lambda: 1 // 0)
        except ZeroDivisionError as error:
            failed.append(str(error))
        done.set()

    lane.submit(task)
    assert done.wait(30)
    assert len(failed) == 1


def test_a_task_that_raises_ends_alone(lane: SmallLane, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    lane.submit(lambda: 1 // 0)
    lane.submit(done.set)
    assert done.wait(30)
    assert "ZeroDivisionError" in caplog.text


def test_who_wakes_it_late_wakes_nobody(lane: SmallLane) -> None:
    """A descriptor that was its bell may be somebody else's by then."""
    done = threading.Event()
    lane.submit(done.set)
    assert done.wait(30)
    lane.close()
    read, write = os.pipe()  # the numbers are free again
    try:
        lane._asleep = True  # as who submits has seen it before
        lane.wake()
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def test_beside_needs_no_place() -> None:
    """As what ends others, which hold all places until then."""
    places = Places(1)
    lane = SmallLane(places, lambda: True)
    ended = threading.Event()

    def holds() -> None:
        while not ended.is_set():
            pause(0.001)

    lane.submit(holds)
    lane.beside(ended.set)
    lane.close()
    assert ended.is_set()
    assert places.are_left
