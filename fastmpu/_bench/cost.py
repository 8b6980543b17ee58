"""What one job took, measured from within the process that does it, and read from there by the one that asked.

Threads: "fastmpu-bench-workers" looks at worker processes while a job runs that has some; it owns what it has seen.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .._sizes import KiB
from ..errors import FastMPUError

LOOK_EVERY = 0.1  # seconds; a look goes through all threads, and finds the most that each child has had


@dataclass(frozen=True)
class Cost:
    """`wall` and `cpu` in seconds, worker processes' CPU included. `peak` in bytes above what the process had before
    the job (0 where the system does not tell), and worker processes from zero.
    """

    wall: float
    cpu: float
    peak: int


def in_this_process(job: Callable[[], object], *, workers: bool = False) -> Cost:
    """Measure `job` here; called in a child, after its imports and before its first request. `workers`: it may start
    processes.
    """
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status("VmRSS")
    with _workers_peak(workers) as workers_peak:
        cpu, wall = _cpu(), time.perf_counter()
        job()
        wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return Cost(wall, cpu, max(0, _status("VmHWM") - before) + workers_peak())


def _cpu() -> float:
    """Of this process, and of its children, also those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_of, _children()))


def _cpu_of(process: int) -> float:
    try:
        times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
    except OSError:  # it has just ended
        return 0.0
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _status(field: str, process: int | str = "self") -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # not Linux, or it has just ended
        return 0
    return next((int(line.split()[1]) * KiB for line in lines if line.startswith(field + ":")), 0)


def _children() -> list[int]:
    try:
        lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
    except OSError:  # not Linux, or a thread has just ended
        return []
    return [int(child) for each in lists for child in each.split()]


@contextmanager
def _workers_peak(wanted: bool) -> Iterator[Callable[[], int]]:
    """The sum of what each child had at most, as far as it was seen in the block."""
    seen: dict[int, int] = {}
    if not wanted:
        yield lambda: 0
        return
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_EVERY):
            for child in _children():
                seen[child] = max(seen.get(child, 0), _status("VmHWM", child))

    thread = threading.Thread(target=look, name="fastmpu-bench-workers")
    thread.start()
    try:
        yield lambda: sum(seen.values())
    finally:
        stop.set()
        thread.join()


def in_a_child(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Cost:
    """Run `python -m module arguments`, which prints a Cost as JSON on its last line. FASTMPU_* does not reach it."""
    inherited = os.environ if environment is None else environment
    child = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={name: value for name, value in inherited.items() if not name.startswith("FASTMPU_")},
    )
    if child.returncode:
        raise FastMPUError(f"the measured process failed with status {child.returncode}: {_last_line(child.stderr)}")
    return Cost(**json.loads(child.stdout.splitlines()[-1]))


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"
