"""Runs one job in a fresh process and tells what it took: wall, CPU, and the memory it added to the interpreter's."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy

MiB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """`wall` and `cpu` in seconds, `peak` in bytes above what the process had before the job."""

    wall: float
    cpu: float
    peak: int


def in_this_process(job: Callable[[], object]) -> Cost:
    """Measure `job` here; called in a child, after its imports and before its first request."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    job()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, _status("VmHWM") - before)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def in_a_child(module: str, *arguments: str) -> Cost:
    """Run `python -m module arguments`, which prints a Cost as JSON on its last line."""
    child = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return Cost(**json.loads(child.stdout.splitlines()[-1]))


@contextmanager
def mock_cluster(*options: str) -> Iterator[str]:
    """The endpoint of a mock cluster in a process of its own."""
    command = [sys.executable, "-m", "fastmpu", "mock", "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield json.loads(child.stdout.readline())["endpoint"]
        finally:
            child.terminate()


@contextmanager
def random_file(size: int) -> Iterator[Path]:
    """A file of `size` random bytes, in the page cache, that nobody holds open."""
    random = numpy.random.default_rng()
    with tempfile.TemporaryDirectory(prefix="fastmpu-bench-") as scratch:
        path = Path(scratch) / "random.bin"
        with path.open("wb") as out:
            for at in range(0, size, 16 * MiB):
                out.write(random.bytes(min(16 * MiB, size - at)))
        yield path


def print_machine(packages: Sequence[str]) -> None:
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    print(f"machine: {platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"python {platform.python_version()}; {', '.join(versions)}")


def spread(values: Sequence[float], form: str) -> str:
    """Median, and minimum to maximum behind it."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"
