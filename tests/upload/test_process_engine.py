"""engine="process": parts are hashed and sent by worker processes, and nothing else changes; nothing of them stays.

Here by nobody else: what this process sends beside them is in test_shared_work.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest

import fastmpu
from fastmpu import mock
from fastmpu._sizes import GiB, MiB
from fastmpu._source import resolve
from fastmpu._transport import Broken, Exchange, Phase, ZeroCopyTransport
from fastmpu._transport import Cancelled as TransportCancelled
from fastmpu._upload import process_pool
from fastmpu._upload.engine import engine_for
from fastmpu._upload.process_messages import RECORDED, Failure, Hash, Untold
from fastmpu.errors import (
    Cancelled,
    CertificateError,
    PartError,
    RestartsExhaustedError,
    SourceChangedError,
    SourceError,
    UsageError,
)
from fastmpu.mock.certificates import Authority

SIZE = 10 * MiB + 12_345
DATA = random.Random(26).randbytes(SIZE)
AT_ONCE = fastmpu.RetryPolicy(attempts=3, base=0.0)
SOON = 10.0
TOKEN = "token-of-the-process-engine-0123456789"
PROGRAM = Path(__file__).with_name("process_upload.py")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def client(cluster: mock.Cluster) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(cluster.endpoint, timeouts=fastmpu.Timeouts(fence=0.2)) as client:
        yield client


@pytest.fixture
def obj(client: fastmpu.Client) -> fastmpu.Object:
    return client.bucket("bucket").create().object("dir/name.bin")


@pytest.fixture(autouse=True)
def nothing_stays(source: Path) -> Iterator[None]:
    """No process, no thread, no descriptor of the file or of shared memory."""
    yield
    assert children(os.getpid()) == []
    assert [each.name for each in threading.enumerate() if each.name.startswith("fastmpu")] == []
    assert [name for name in open_files() if "memfd:fastmpu" in name or name == str(source)] == []
    assert "memfd:fastmpu" not in Path("/proc/self/maps").read_text()


@pytest.fixture(autouse=True)
def workers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "SHARE", 0)


def send(obj: fastmpu.Object, source: Path, **options: Any) -> fastmpu.Receipt:
    """Eleven parts by two workers."""
    given = {"part_size": MiB, "max_concurrency": 4, "engine": "process", "processes": 2, "retry": AT_ONCE}
    return obj.upload(source, **{**given, "journal": "off", **options})


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return found


def open_files() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return found


def until(condition: Callable[[], Any], seconds: float = SOON) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)
    return value


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def stopped(pid: int) -> bool:
    """All its threads: a busy machine lets some run on for a while."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


class Aside:
    """`act` in a thread beside the upload, as soon as `when` says so."""

    def __init__(self, when: Callable[[], Any], act: Callable[[Any], object]):
        self._thread = threading.Thread(target=lambda: act(until(when)))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def silent(cluster: mock.Cluster) -> bool:
    """Nothing was done that loses data. That an old upload is aborted though attempts of it may be alive, when the job
    is over, holds for every engine (docs/decisions/2026-11-23-old-uploads-are-aborted-last.md)."""
    return not [each for each in cluster.truth.violations() if not each.startswith("abort of upload ")]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["pread", "mmap"])
def test_an_upload(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same object and receipt as with threads; each part by one request; workers end by themselves."""
    receipt = send(obj, source, read=read)
    assert obj.get_reader().read_all() == DATA
    assert (receipt.engine, receipt.verified, receipt.read, receipt.restarts) == ("process", "head", read, 0)
    other = send(obj, source, engine="thread")
    assert receipt.checksum == other.checksum
    assert [part.checksums for part in receipt.parts] == [part.checksums for part in other.parts]
    assert {part.attempts for part in receipt.parts} == {1}
    assert receipt.bytes_sent == SIZE
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert cluster.truth.violations() == []


@pytest.mark.parametrize("options", [{"checksum": "none"}, {"checksum": "xxhash"}, {"part_checksum": "sha256"}])
def test_checksums(obj: fastmpu.Object, source: Path, options: dict[str, str]) -> None:
    receipt = send(obj, source, **options)
    assert obj.get_reader().read_all() == DATA
    assert set(receipt.parts[3].checksums) == {"none": set(), "xxhash": {"crc32c", "xxhash"}}.get(
        options.get("checksum", ""), {"crc32c"}
    )


@pytest.mark.parametrize("processes", [1, 3, 64])
def test_any_number_of_workers(obj: fastmpu.Object, source: Path, processes: int) -> None:
    """Never more than requests; several requests in one worker."""
    most = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, len(children(os.getpid())))
            time.sleep(0.002)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        send(obj, source, processes=processes, max_concurrency=4)
    finally:
        stop.set()
        counter.join()
    assert obj.get_reader().read_all() == DATA
    assert most == min(processes, 4)


def test_workers_work_side_by_side(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """Four requests in flight by two workers, and not five."""
    slow = cluster.faults.add("trickle", bytes_per_s=1000, op="part", times="always")
    seen: list[int] = []

    def in_flight() -> int:
        return len([each for each in cluster.truth.alive if each.op == "part"])

    def look(_: Any) -> None:
        time.sleep(0.2)
        seen.append(in_flight())
        slow.remove()

    with Aside(lambda: in_flight() >= 4, look):
        send(obj, source)
    assert seen == [4]


def test_progress_is_seen_while_a_part_is_sent(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """`sent` runs ahead of `acked`, in steps smaller than a part."""
    events: list[fastmpu.ProgressEvent] = []
    os.truncate(source, 60 * MiB)  # of which the kernels hold some 10 at once
    with cluster.faults.add("bandwidth", bps=60e6, op="part"):
        send(obj, source, part_size=30 * MiB, progress=events.append)
    ahead = {event.sent - event.acked for event in events} - {0, 30 * MiB}
    assert len(ahead) >= 3
    assert [event.sent for event in events] == sorted(event.sent for event in events)


@pytest.mark.parametrize(("read", "leases"), [("pread", 0), ("mmap", 3)])
def test_each_process_has_a_lease_of_its_own(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, read: str, leases: int
) -> None:
    """So that none has to wait for another one's maps when a writer comes."""
    inode = source.stat().st_ino
    seen: list[int] = []

    slow = cluster.faults.add("trickle", bytes_per_s=1000, op="part", times="always")

    def look(_: Any) -> None:
        lines = Path("/proc/locks").read_text().splitlines()
        seen.append(sum("LEASE" in line and f":{inode} " in line for line in lines))
        slow.remove()

    with Aside(lambda: len([each for each in cluster.truth.alive if each.op == "part"]) >= 4, look):
        send(obj, source, read=read)
    assert seen == [leases]


def test_tls(source: Path, tmp_path: Path) -> None:
    """The workers trust the same CA, and nobody else."""
    authority = Authority(tmp_path / "authority")
    with (
        mock.Cluster(targets=2, tls=authority.issue("127.0.0.1")) as cluster,
        fastmpu.Client(cluster.endpoint, ca_file=authority.ca_file) as client,
    ):
        obj = client.bucket("bucket").create().object("o")
        assert send(obj, source).engine == "process"
        assert obj.get_reader().read_all() == DATA
        for target in cluster.targets:
            cluster.set_tls(authority.issue("127.0.0.1", kind="expired"), target.id)
        with pytest.raises(PartError) as caught:
            send(obj, source)
        assert isinstance(caught.value.__cause__, CertificateError)
        assert "has expired" in str(caught.value)


def test_a_plain_put_needs_no_worker(obj: fastmpu.Object, source: Path) -> None:
    assert send(obj, source, multipart_threshold="1GiB", part_size="auto").engine == "inline"


# --- what goes wrong, and is put right --------------------------------------------------------------------------------


def test_a_refused_part_is_sent_again(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    cluster.faults.add("status", code=503, op="part", part=2, times=2)
    receipt = send(obj, source)
    assert receipt.parts[1].attempts == 3
    assert obj.get_reader().read_all() == DATA
    assert cluster.truth.violations() == []


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_a_lost_answer(obj: fastmpu.Object, source: Path, cluster: mock.Cluster, how: str) -> None:
    """The gap probe tells, and the worker has told the checksum."""
    cluster.faults.add("lost_response", op="part", part=3, how=how)
    receipt = send(obj, source)
    assert (receipt.probes, receipt.restarts, receipt.parts[2].attempts) == (1, 0, 1)
    assert obj.get_reader().read_all() == DATA
    assert cluster.truth.violations() == []


def test_a_refusal_for_good(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """It has the cluster's words, and the upload is aborted."""
    cluster.faults.add("early_status", code=507, byte=65536, op="part", part=4)
    with pytest.raises(PartError) as caught:
        send(obj, source)
    assert (caught.value.status, caught.value.part_number) == (507, 4)
    assert cluster.stored_bytes == 0
    assert cluster.truth.violations() == []


@pytest.mark.parametrize("read", ["pread", "mmap"])
def test_a_file_that_is_truncated(obj: fastmpu.Object, source: Path, cluster: mock.Cluster, read: str) -> None:
    """Whoever truncates it is let in at once, and no worker dies of it."""
    waited: list[float] = []

    def truncate(_: Any) -> None:
        began = time.monotonic()
        os.truncate(source, SIZE // 2)
        waited.append(time.monotonic() - began)

    cluster.faults.add("bandwidth", bps=4e6, op="part")
    with Aside(lambda: cluster.truth.attempts(op="part"), truncate), pytest.raises(SourceChangedError):
        send(obj, source, read=read)
    assert waited[0] < 1.0
    assert cluster.stored_bytes == 0


def test_cancel(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """Workers that stand still are told through shared memory: attempts end, and the upload is aborted."""
    event = threading.Event()
    told: list[float] = []

    def cancel(_: Any) -> None:
        told.append(time.monotonic())
        event.set()

    with cluster.faults.add("trickle", bytes_per_s=1000, op="part", times="always"):
        with Aside(lambda: len(cluster.truth.alive) >= 4, cancel), pytest.raises(Cancelled):
            send(obj, source, cancel=event)
        assert time.monotonic() - told[0] < 2.0
    assert cluster.truth.wait_until_quiet()
    assert not obj.exists()


def test_a_worker_that_does_not_listen(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by a signal it hears nothing; after the fence, and a while, it is killed."""
    monkeypatch.setattr(process_pool, "GRACE", 0.3)
    event = threading.Event()

    def stop(_: Any) -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGSTOP)
        event.set()

    with cluster.faults.add("trickle", bytes_per_s=1000, op="part", times="always"):
        began = time.monotonic()
        with Aside(lambda: len(cluster.truth.alive) >= 4, stop), pytest.raises(Cancelled):
            send(obj, source, cancel=event)
        assert time.monotonic() - began < SOON


# --- a worker dies ----------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_while_it_sends(
    obj: fastmpu.Object, source: Path, cluster: mock.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its parts are unknown, and the cluster does not have them: again under a new id, where the old attempts, which
    are still alive there, cannot reach."""
    stalled = cluster.faults.add("stall_at", byte=1000, ms="forever", op="part", part=5)

    def strike(_: Any) -> None:
        time.sleep(0.1)
        kill(children(os.getpid()))

    with Aside(lambda: [r for r in cluster.truth.alive if r.part == 5], strike):
        receipt = send(obj, source)
    assert receipt.restarts == 1
    assert "ended by signal 9" in caplog.text
    assert obj.get_reader().read_all() == DATA
    stalled.remove()
    assert cluster.truth.wait_until_quiet()
    assert silent(cluster)
    assert obj.get_reader().read_all() == DATA


def test_a_worker_that_is_stopped(source: Path, cluster: mock.Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """It gives no sign of life, and is killed when a request without progress would have been: then it has died."""

    def strike(_: Any) -> None:
        time.sleep(0.1)
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGSTOP)

    stalled = cluster.faults.add("stall_at", byte=1000, ms="forever", op="part", part=5)
    with fastmpu.Client(cluster.endpoint, timeouts=fastmpu.Timeouts(stall_seconds=1.5, fence=0.2)) as client:
        obj = client.bucket("bucket").create().object("dir/name.bin")
        with Aside(lambda: [each for each in cluster.truth.alive if each.part == 5], strike):
            receipt = send(obj, source)
        assert receipt.restarts == 1
        assert "no sign of life" in caplog.text
        assert obj.get_reader().read_all() == DATA
        stalled.remove()
        assert cluster.truth.wait_until_quiet()
        assert silent(cluster)
        assert obj.get_reader().read_all() == DATA


def test_idle_workers_live_on(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life do not depend on tickets; and a parent that was stopped itself has no right to complain."""
    monkeypatch.setattr(process_pool, "IDLE_TICK", 0.1)
    pool = process_pool.ProcessPool(data := resolve(source), None, 2, 2, silence=1.5)
    try:
        pids = until(lambda: len(pool.pids) == 2 and pool.pids)
        time.sleep(1.5)
        assert pool.pids == pids
        worker = next(iter(pool._workers.values()))
        until(lambda: worker.beats)
        os.kill(pids[0], signal.SIGSTOP)
        time.sleep(0.3)
        with pool._changed:  # the pool's own thread is kept from running
            time.sleep(1.5)
        time.sleep(0.2)
        os.kill(pids[0], signal.SIGCONT)
        time.sleep(0.5)
        assert pool.pids == pids
    finally:
        pool.close()
        data.close()


def test_a_worker_that_is_killed_before_it_can_tell(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """The part is stored, so the upload goes on, by a new worker; its checksum is computed once more."""
    cluster.faults.add("late_response", ms=60_000, op="part", part=4)

    def all_are_stored() -> bool:
        """The others went by the other lane: none of them is half sent when the worker dies."""
        return len(cluster.truth.attempts(op="part", outcome="stored")) == 11

    with Aside(all_are_stored, lambda _: kill(children(os.getpid()))):
        receipt = send(obj, source, processes=1, max_concurrency=2)
    assert (receipt.probes, receipt.restarts) == (1, 0)
    assert receipt.checksum == send(obj, source, engine="thread").checksum
    assert obj.get_reader().read_all() == DATA
    assert cluster.truth.violations() == []


def test_workers_that_always_die(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """What they had begun with is unknown, again and again: a named error, soon, and nothing is left on the cluster.
    Unless they died with nothing, and this process has sent it all."""
    stop = threading.Event()

    def reap() -> None:
        while not stop.wait(0.01):
            if any(record.op == "part" for record in cluster.truth.alive):
                kill(children(os.getpid()))

    sent = False
    with cluster.faults.add("latency", ms=100, op="part", times="always"):
        reaper = threading.Thread(target=reap)
        reaper.start()
        began = time.monotonic()
        try:
            sent = send(obj, source).verified == "head"
        except (RestartsExhaustedError, PartError):
            pass
        finally:
            stop.set()
            reaper.join()
        assert time.monotonic() - began < 30
    assert cluster.truth.wait_until_quiet()
    assert obj.get_reader().read_all() == DATA if sent else not obj.exists()
    assert silent(cluster)


def test_idle_workers_that_die_are_replaced(obj: fastmpu.Object, source: Path, cluster: mock.Cluster) -> None:
    """Before they were given anything: nobody notices."""
    with Aside(lambda: children(os.getpid()), kill):
        receipt = send(obj, source)
    assert receipt.engine == "process"
    assert obj.get_reader().read_all() == DATA
    assert cluster.truth.violations() == []


def test_a_ticket_that_was_not_begun_goes_to_another_worker(source: Path) -> None:
    """Nothing of it can have been sent."""
    pool = process_pool.ProcessPool(data := resolve(source), None, 1, 1)
    try:
        (first,) = until(lambda: pool.pids)
        until(lambda: pool._is_ready(pool._workers[0]))
        os.kill(first, signal.SIGSTOP)
        until(lambda: stopped(first))
        ticket = Hash(fastmpu.PartRange(1, 0, SIZE), "sha256")
        with Aside(lambda: pool._taken, lambda _: kill([first])):
            outcome = pool.ask(ticket, None, None)
        assert outcome is not None
        assert outcome.checksums == {"sha256": hashlib.sha256(DATA).hexdigest()}
        assert pool.pids != [first]
    finally:
        pool.close()
        data.close()


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_no_worker_can_be_started(
    obj: fastmpu.Object,
    source: Path,
    cluster: mock.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str,
) -> None:
    """It is said, once, and this process sends it all, several requests at a time."""
    monkeypatch.setattr(sys, "executable", program)
    with cluster.faults.add("latency", ms=100, op="part", times="always"):
        receipt = send(obj, source, part_checksum="sha256")
    assert (receipt.engine, receipt.verified, receipt.restarts) == ("process", "head", 0)
    assert obj.get_reader().read_all() == DATA
    assert caplog.text.count("no worker process is left: this process sends what remains") == 1
    assert cluster.truth.most_alive(cluster.truth.attempts(op="part")) > 1
    assert cluster.truth.violations() == []


def test_starts_are_counted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that are missing never more than may be started."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = process_pool.ProcessPool(data := resolve(source), None, 2, 2)
    try:
        until(pool._alone)
        with pool._changed:
            pool._starts_left = 1
            assert len(pool._missing()) == 1
            pool._starts_left = 0
    finally:
        pool.close()
        data.close()


# --- the parent dies, or is told to stop ------------------------------------------------------------------------------


def started(cluster: mock.Cluster, source: Path, *more: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
    """The program, and its workers, while parts trickle."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), cluster.endpoint, "ais://bucket/dir/name.bin", str(source), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("PIDS"), process.communicate()
    pids = [int(each) for each in line.split()[1:]]
    assert len(pids) == 2
    return process, pids


@pytest.mark.parametrize("fork", [[], ["fork"]], ids=["alone", "with a forked child"])
def test_a_parent_that_is_killed(obj: fastmpu.Object, cluster: mock.Cluster, source: Path, fork: list[str]) -> None:
    """Workers end with it: nothing goes on sending for a process that is no more. Also where another process has got a
    copy of its ends of the sockets, so that there is no EOF."""
    with cluster.faults.add("trickle", bytes_per_s=50_000, op="part", times="always"):
        process, pids = started(cluster, source, *fork)
        os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: all(map(gone, pids)), 2.0)
        assert time.monotonic() - began < 2.0
        process.communicate()
    assert cluster.truth.wait_until_quiet()
    assert not obj.exists()


def test_ctrl_c_in_a_terminal(obj: fastmpu.Object, cluster: mock.Cluster, source: Path) -> None:
    """The whole group gets it; the parent decides: attempts end, the upload is aborted, and no worker says a word."""
    with cluster.faults.add("bandwidth", bps=1.5e6, op="part", times="always"):
        process, pids = started(cluster, source, start_new_session=True)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "process_worker" not in errors
    assert errors.strip().endswith("KeyboardInterrupt")
    assert all(map(gone, pids))
    assert cluster.truth.wait_until_quiet()
    assert cluster.stored_bytes == 0
    assert cluster.truth.violations() == []


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_scripts_need_no_guard(obj: fastmpu.Object, cluster: mock.Cluster, source: Path, how: str) -> None:
    """The caller's main module is not imported in workers: files without the idiom will do, and so does `python -`; and
    what lies in the current directory is not imported either."""
    if how == "file":
        (source.parent / "socket.py").write_text("raise SystemExit('imported by mistake')")
    program = str(PROGRAM) if how == "file" else "-"
    result = subprocess.run(
        [sys.executable, program, cluster.endpoint, "ais://bucket/dir/name.bin", str(source)],
        input=PROGRAM.read_text() if how == "stdin" else None,
        cwd=source.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.splitlines()[-1:] == ["DONE process head"], result.stderr
    assert obj.get_reader().read_all() == DATA


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_the_token_is_nowhere_to_be_seen(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It comes over the socket: not by arguments, not by the environment, and no traceback of a worker's end has it."""
    monkeypatch.setenv("AIS_AUTHN_TOKEN", TOKEN)
    monkeypatch.setenv("MY_OWN_SECRET", TOKEN)
    caplog.set_level(logging.DEBUG)
    seen: list[Any] = []

    def look(_: Any) -> None:
        for pid in children(os.getpid()):
            seen.extend(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
            os.kill(pid, signal.SIGKILL)

    with mock.Cluster(targets=2, tokens=[TOKEN]) as cluster, fastmpu.Client(cluster.endpoint) as client:
        obj = client.bucket("bucket").create().object("o")
        with (
            cluster.faults.add("trickle", bytes_per_s=1000, op="part", times=4),
            Aside(lambda: len(cluster.truth.alive) > 3, look),
        ):
            assert send(obj, source).restarts == 1
        assert obj.get_reader().read_all() == DATA
        assert len(seen) == 4
        assert b"fastmpu worker" in seen[0]
        assert b"PATH=" in seen[1]
        assert not any(TOKEN.encode() in each for each in seen)

        cluster.faults.add("early_status", code=507, byte=65536, op="part", part=4)
        with pytest.raises(PartError) as caught:
            send(obj, source)
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert TOKEN not in shown
    assert TOKEN not in caplog.text
    assert TOKEN not in "".join(capfd.readouterr())


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_workers_cannot_send(cluster: mock.Cluster, source: Path, tmp_path: Path) -> None:
    """Said before anything is sent; "auto" takes threads then."""
    authority = Authority(tmp_path / "authority")
    with fastmpu.Client(cluster.endpoint) as client, pytest.raises(UsageError, match="this process's memory"):
        client.bucket("b").object("o").upload(DATA, engine="process")
    with (
        fastmpu.Client(cluster.endpoint, transport=ZeroCopyTransport()) as client,
        pytest.raises(UsageError, match="transport="),
    ):
        send(client.bucket("b").object("o"), source)
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with (
        fastmpu.Client("https://127.0.0.1:1", ssl_context=context) as client,
        pytest.raises(UsageError, match="ssl_context="),
    ):
        send(client.bucket("b").object("o"), source)
    for bad in (0, 257, True, "many"):
        with pytest.raises(UsageError, match="processes"):
            fastmpu.UploadOptions(processes=bad)  # type: ignore[arg-type]
    assert cluster.truth.attempts() == []


@pytest.mark.parametrize(
    ("options", "facts", "engine"),
    [
        ({}, {}, "thread"),
        ({}, {"tls": True}, "process"),
        ({"part_checksum": "sha256"}, {}, "process"),
        ({}, {"tls": True, "cores": 2}, "thread"),
        ({}, {"tls": True, "size": GiB - 1}, "thread"),
        ({}, {"tls": True, "obstacle": "a buffer"}, "thread"),
        ({}, {"tls": True, "parts": 0}, "inline"),
        ({}, {"tls": True, "parts": 1}, "thread"),
        ({"max_concurrency": 1}, {"tls": True}, "thread"),
        ({"engine": "thread"}, {"tls": True}, "thread"),
        ({"engine": "inline"}, {"tls": True}, "inline"),
        ({"engine": "process"}, {"cores": 1, "size": 2}, "process"),
        ({"engine": "process"}, {"parts": 0}, "inline"),
        ({"engine": "process"}, {"parts": 1}, "thread"),
        ({"engine": "process", "max_concurrency": 1}, {}, "thread"),
    ],
)
def test_which_engine(options: dict[str, Any], facts: dict[str, Any], engine: str) -> None:
    given = {"size": GiB, "parts": 16, "tls": False, "obstacle": "", "cores": 3, **facts}
    assert engine_for(fastmpu.UploadOptions(**options), **given).engine == engine


@pytest.mark.parametrize(
    "error",
    [
        Broken("127.0.0.1:80", Phase.WAIT, "timed out"),
        TransportCancelled("cancelled on request"),
        SourceChangedError("it changed"),
        SourceError(5, "cannot read"),
        OSError(5, "Input/output error"),
        UsageError("wrong"),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_home_as_they_were(error: Exception) -> None:
    """Class, words, number and cause."""
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    cause.verify_code, cause.reason = 10, "CERTIFICATE_VERIFY_FAILED"
    cause.__cause__ = h11.RemoteProtocolError("strange")
    error.__cause__ = cause
    other = pickle.loads(pickle.dumps(Failure.of(error))).error()
    assert (type(other), str(other), other.args) == (type(error), str(error), error.args)
    assert getattr(other, "errno", None) == getattr(error, "errno", None)
    assert (other.__cause__.verify_code, other.__cause__.reason) == (10, "CERTIFICATE_VERIFY_FAILED")
    assert str(other.__cause__.__cause__) == "strange"


def test_errors_that_do_not_pickle() -> None:
    """They come as what a network's failure is: with head_sent, nobody takes it for an answer."""

    class Local(Exception):
        pass

    error = pickle.loads(pickle.dumps(Failure.of(Local("here")))).error()
    assert (type(error), str(error)) == (Untold, "Local: here")


def test_the_record_names_are_the_exchanges() -> None:
    assert {*RECORDED, "resent"} == set(Exchange.__dataclass_fields__)
