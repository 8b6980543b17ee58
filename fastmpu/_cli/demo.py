"""`fastmpu demo`: the main job on a cluster inside this process, beside the same job done as AIStore's notebook does
it.

Threads: the cluster's own (see mock/server.py), the uploads' workers, and "fastmpu-memory", which samples this
process's memory while an upload runs and owns only its maximum.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import mock
from .._sizes import KiB, MiB, format_size, parse_size
from .._upload.receipt import Receipt
from ..ais import Client, Object
from ..errors import IntegrityError, SourceError, UsageError
from .render import Progress, bar_of, say, show_table
from .status import Status

NOTEBOOK_PART = 16 * MiB
NOTEBOOK_WORKERS = 3  # as AIStore's notebook has it
SAMPLE_EVERY = 0.01  # seconds


@dataclass(frozen=True)
class Cost:
    """What a job took. `cpu` is this process's CPU time without the mock cluster's own threads."""

    seconds: float
    cpu: float
    memory: int


def run(file: str | None, size: str, progress: Progress) -> Status:
    """Upload, verify, read back, compare; then print the table."""
    with tempfile.TemporaryDirectory(prefix="fastmpu-demo-") as scratch:
        path = Path(file) if file is not None else _random_file(Path(scratch) / "random.bin", size)
        try:
            count = path.stat().st_size
        except OSError as error:
            raise SourceError(f"cannot upload {path}: {error.strerror}") from error
        # The cluster holds the object once. Where memory is short it holds it on disk.
        directory = scratch if count > _free_memory() // 2 else None
        with mock.Cluster(targets=3, directory=directory) as cluster, Client(cluster.endpoint, token=None) as client:
            bucket = client.bucket("demo").create()
            place = "memory" if directory is None else scratch
            say(f"mock cluster: proxy {cluster.endpoint} and 3 targets, objects in {place}")
            fast = bucket.object("fastmpu")
            receipts: list[Receipt] = []
            if directory is None:
                _touch_memory(count)
            with bar_of(progress, str(path)) as on_progress:
                fast_cost = _measured(cluster, lambda: receipts.append(fast.upload(path, progress=on_progress)))
            say(f"{receipts[0]}; reading it back")
            _compare(fast, path)
            fast.delete()
            slow_cost = None
            if count:
                say(f"the same as in AIStore's notebook: {format_size(NOTEBOOK_PART)} x {NOTEBOOK_WORKERS} threads")
                slow = bucket.object("notebook")
                slow_cost = _measured(cluster, lambda: _as_in_the_notebook(slow, path))
                _compare(slow, path)
    _show(path if file else None, count, receipts[0], fast_cost, slow_cost)
    return Status.done


def _random_file(path: Path, size: str) -> Path:
    try:
        count = parse_size(size, "size")
    except ValueError as error:
        raise UsageError(str(error)) from None
    free = shutil.disk_usage(path.parent).free
    if not 0 <= count <= free:
        raise UsageError(f"size={size!r}: it must be from 0 to the {format_size(free)} free in {path.parent}")
    say(f"making {format_size(count)} of random data in {path}")
    import numpy  # here, not above: it takes 30 ms, and a given FILE does not need it

    random = numpy.random.default_rng()
    with path.open("wb") as out:
        for at in range(0, count, 16 * MiB):
            out.write(random.bytes(min(16 * MiB, count - at)))
    return path


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _touch_memory(count: int) -> None:
    """Have the machine hand out as much memory as the cluster will need, so that the first job does not pay for it."""
    if count:
        with mmap.mmap(-1, count) as scratch:
            for at in range(0, count, mmap.PAGESIZE):
                scratch[at] = 1


def _as_in_the_notebook(target: Object, path: Path) -> None:
    """Parts as bytes objects, from three threads, without checksums or a check at the end."""
    upload = target.multipart_upload().create()

    def put(number: int) -> None:
        with path.open("rb") as source:
            source.seek((number - 1) * NOTEBOOK_PART)
            upload.add_part(number).put_content(source.read(NOTEBOOK_PART))

    with ThreadPoolExecutor(max_workers=NOTEBOOK_WORKERS) as pool:
        list(pool.map(put, range(1, -(-path.stat().st_size // NOTEBOOK_PART) + 1)))
    upload.complete()


def _compare(target: Object, path: Path) -> None:
    with path.open("rb") as source:
        at = 0
        for piece in target.get_reader():
            wanted = source.read(len(piece))
            if wanted != piece:
                raise IntegrityError(
                    f"{target.uri} differs from {path} after byte {at}", expected=str(path), found=target.uri
                )
            at += len(piece)
        if source.read(1):
            raise IntegrityError(f"{target.uri} ends after {at} bytes", expected="", found="")


def _measured(cluster: mock.Cluster, job: Callable[[], object]) -> Cost:
    cpu = time.process_time() - cluster.cpu_seconds
    began = time.monotonic()
    with _peak_memory() as peak:
        job()
    seconds = time.monotonic() - began
    return Cost(seconds, time.process_time() - cluster.cpu_seconds - cpu, peak())


@contextmanager
def _peak_memory() -> Iterator[Callable[[], int]]:
    """The most memory that the block added, in bytes, without what the mock cluster stores (which is shared memory)."""
    stop = threading.Event()
    before = most = _own_memory()

    def sample() -> None:
        nonlocal most
        while not stop.wait(SAMPLE_EVERY):
            most = max(most, _own_memory())

    thread = threading.Thread(target=sample, name="fastmpu-memory")
    thread.start()
    try:
        yield lambda: most - before
    finally:
        stop.set()
        thread.join()


def _own_memory() -> int:
    """Resident bytes without shared memory, which is where the mock cluster keeps objects."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return 0
    return sum(int(line.split()[1]) * KiB for line in lines if line.startswith(("RssAnon:", "RssFile:")))


def _show(path: Path | None, count: int, receipt: Receipt, fast: Cost, slow: Cost | None) -> None:
    jobs = [("fastmpu upload()", fast)] + ([("as in the notebook", slow)] if slow else [])
    rows = []
    for label, cost in jobs:
        per_gb = f"{cost.cpu / (count / 1e9):.2f}" if count else "-"
        rate = f"{format_size(count / cost.seconds)}/s"
        rows.append([label, f"{cost.seconds:.2f} s", rate, per_gb, format_size(cost.memory)])
    what = path.name if path else "random data"
    show_table(
        f"MOCK CLUSTER in this process, not AIStore: {format_size(count)} of {what}, both read back and equal",
        ["job", "wall", "throughput", "client CPU s/GB", "peak memory"],
        rows,
        f"fastmpu: {len(receipt.parts) or 1} parts, checksum {receipt.checksum}, verified by {receipt.verified}, "
        f"read by {receipt.read}. The notebook's way hashes and verifies nothing. Peak memory: what the upload added, "
        f"without the {format_size(count)} that the cluster stores.",
    )
