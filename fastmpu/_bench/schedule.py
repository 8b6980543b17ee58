"""Who runs when: each repetition goes through all cells, in an order of its own, so that a machine whose speed drifts
is slow for all of them. The first repetition is not counted.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from .._sizes import GiB
from .._upload.uploader import upload
from ..ais import Bucket, Client, Object
from ..errors import FastMPUError, IntegrityError, SourceError, UsageError
from .cluster import MockOptions, mock_cluster, plain_environment
from .cost import Cost, in_a_child
from .files import random_file
from .grid import READ_BACK, Cell, Grid
from .job import Task
from .machine import machine_facts, versions
from .report import Report, Run

OnRun = Callable[[int, int, Cell], None]


@dataclass(frozen=True)
class Conditions:
    """`file`: what is uploaded, else `size` random bytes. `runs` are counted, one more before them is not. `endpoint`:
    a cluster that exists; None: the mock. The same `seed`, the same order.
    """

    file: Path | None = None
    size: int = GiB
    runs: int = 5
    seed: int = 1
    endpoint: str | None = None
    mock: MockOptions = MockOptions()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"size={self.size}: it must be at least 1 byte")
        if self.runs < 1:
            raise UsageError(f"runs={self.runs}: at least 1 must be counted")
        if self.endpoint is not None and self.mock != MockOptions():
            raise UsageError(f"endpoint={self.endpoint!r}: sink, round trip and bandwidths belong to the mock alone")

    def check(self, grid: Grid) -> None:
        """UsageError if these cells cannot run under these conditions."""
        grid.check_size(self.file_size())
        if grid.read_back and self.mock.sink:
            raise UsageError("read_back=True: a sink keeps nothing that could be read back")
        if self.endpoint is not None:
            Client(self.endpoint).close()
            if "sendfile" in grid.against and not self.endpoint.lower().startswith("http:"):
                raise UsageError(f"against='sendfile': bare sockets speak no TLS, as {self.endpoint!r} asks for")

    def file_size(self) -> int:
        if self.file is None:
            return self.size
        try:
            with self.file.open("rb"):
                size = self.file.stat().st_size
        except OSError as error:
            raise SourceError(f"cannot upload {self.file}: {error.strerror}") from error
        if not size:
            raise UsageError(f"file={str(self.file)!r}: an empty file tells nothing of speed")
        return size


def run(grid: Grid, conditions: Conditions = Conditions(), on_run: OnRun | None = None) -> Report:
    """Measure all cells. `on_run` is called before each run with how many are done, how many there are, and the cell.

    Raises UsageError before anything starts; FastMPUError when a run fails, since what is left would not compare.
    """
    conditions.check(grid)
    cells, size, live = grid.cells(), conditions.file_size(), conditions.endpoint
    report = Report(
        cells=cells,
        size=size,
        label=f"the cluster {live}" if live is not None else str(conditions.mock),
        mock=live is None,
        conditions={**asdict(conditions), "file": conditions.file and str(conditions.file)},
        machine=machine_facts(),
        versions=versions(),
    )
    cluster = nullcontext(live) if live is not None else mock_cluster(conditions.mock)
    source = nullcontext(conditions.file) if conditions.file is not None else random_file(size)
    with source as path, cluster as endpoint, _bucket(endpoint, live is None) as bucket:
        done, total = 0, (conditions.runs + 1) * len(cells)
        for repetition in range(conditions.runs + 1):
            order = list(range(len(cells)))
            random.Random(f"{conditions.seed} {repetition}").shuffle(order)
            for position, at in enumerate(order, 1):
                if on_run is not None:
                    on_run(done, total, cells[at])
                cost = _measure(cells[at], bucket, endpoint, path, size, mock=live is None)
                if repetition:
                    report.runs.append(Run(at, repetition, position, cost))
                done += 1
    return report


@contextmanager
def _bucket(endpoint: str, mock: bool) -> Iterator[Bucket]:
    """One of this run's own, gone after it; a mock goes as a whole."""
    with Client(endpoint) as client:
        bucket = client.bucket(f"fastmpu-bench-{uuid.uuid4().hex[:12]}").create()
        try:
            yield bucket
        finally:
            if not mock:
                bucket.delete(missing_ok=True)


def _measure(cell: Cell, bucket: Bucket, endpoint: str, path: Path, size: int, *, mock: bool) -> Cost:
    """One run, and a look at what it left: who stores nothing is not fast. The object does not stay: the next run
    finds the cluster as this one did.
    """
    target = bucket.object("object")
    if cell.sender == READ_BACK:
        upload(path, target, part_size=cell.part_size, resume="never", journal="off")
    task = Task(cell, endpoint, bucket.name, target.name, str(path))
    try:
        cost = in_a_child("fastmpu._bench", "job", task.to_json(), environment=plain_environment() if mock else None)
        _check(target, size)
    except FastMPUError as error:
        raise FastMPUError(f"{cell}: {error}") from error
    target.delete()
    return cost


def _check(target: Object, size: int) -> None:
    found = target.head().size
    if found != size:
        raise IntegrityError(f"{target.uri} has {found} bytes, not {size}", expected=str(size), found=str(found))
