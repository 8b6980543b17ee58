"""Run as a program: uploads of a file that changes meanwhile, judged one by one. `source_changer.py MODE FIRST COUNT`

A process of its own, because what it must never do is die of SIGBUS; if a worker process does, the judge says so. It
prints what came of each upload, and at last "done".
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from errno import EIO, ESTALE
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))

from bench.fault_cases import Case, KiB
from bench.judge import Source, judge
from fastmpu import mock

SIZE = 8 * 256 * KiB
Change = Callable[[Path, random.Random], object]


def truncate(path: Path, dice: random.Random) -> None:
    os.truncate(path, dice.choice((0, 1, SIZE // 2, SIZE - 1)))


def truncate_in_a_loop(path: Path, dice: random.Random) -> None:
    for _ in range(30):
        os.truncate(path, dice.choice((0, 4096, SIZE)))
        time.sleep(0.001)


def grow(path: Path, dice: random.Random) -> None:
    with path.open("ab") as file:
        file.write(b"more" * dice.randrange(1, 1000))


def edit(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(dice.randrange(SIZE - 16))
        file.write(b"somebody else's.")


def edit_and_put_the_time_back(path: Path, dice: random.Random) -> None:
    was = path.stat()
    edit(path, dice)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def replace(path: Path, dice: random.Random) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file" * dice.randrange(1, 100_000))
    other.rename(path)


def unlink(path: Path, dice: random.Random) -> None:
    path.unlink()


def nothing(path: Path, dice: random.Random) -> None:
    """For the kinds that are about reading."""


@contextlib.contextmanager
def reads_fail(number: int, nth: int) -> Iterator[None]:
    """The nth read of the source, however it is done, fails with that errno."""
    left = [nth]

    def failing(real: Callable[..., Any], descriptor: Callable[..., int]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if os.readlink(f"/proc/self/fd/{descriptor(*arguments)}").endswith("source.bin"):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(number, os.strerror(number))
            return real(*arguments)

        return call

    with (
        patch("os.preadv", failing(os.preadv, lambda fd, *_: fd)),
        patch("os.sendfile", failing(os.sendfile, lambda _, fd, *__: fd)),
    ):
        yield


CHANGES: dict[str, Change] = {
    each.__name__: each
    for each in (truncate, truncate_in_a_loop, grow, edit, edit_and_put_the_time_back, replace, unlink)
}
READ_ERRORS = {"EIO": EIO, "ESTALE": ESTALE}


def kinds(mode: str) -> list[str]:
    """Failing reads are made in this process, and the workers' are their own."""
    return list(CHANGES) if MODES[mode].options.get("engine") == "process" else [*CHANGES, *READ_ERRORS]


OF_THE_SAME_BYTES = ("replace", "unlink")  # the file that was opened stays what it was

THREADS = {"engine": "thread", "max_concurrency": 3}
PROCESSES = {"engine": "process", "processes": 1, "max_concurrency": 4}
MODES = {
    "sendfile": Case(size=SIZE, part_size=256 * KiB, options={**THREADS, "read": "pread"}),
    "mapped": Case(size=SIZE, part_size=256 * KiB, options={**THREADS, "read": "mmap"}),
    "tls": Case(size=SIZE, part_size=256 * KiB, tls=True, options={**THREADS, "read": "pread"}),
    "tls-mapped": Case(size=SIZE, part_size=256 * KiB, tls=True, options={**THREADS, "read": "mmap"}),
    "inline-mapped": Case(size=SIZE, part_size=256 * KiB, options={"engine": "inline", "read": "mmap"}),
    "processes": Case(size=SIZE, part_size=256 * KiB, options={**PROCESSES, "read": "pread"}),
    "processes-mapped": Case(size=SIZE, part_size=256 * KiB, options={**PROCESSES, "read": "mmap"}),
    "processes-tls-mapped": Case(size=SIZE, part_size=256 * KiB, tls=True, options={**PROCESSES, "read": "mmap"}),
    "whole": Case(size=SIZE, multipart=False, options={"read": "mmap"}),
}


def run(mode: str, seed: int) -> str:
    """The outcome of one upload, or what was wrong with it, behind "BAD"."""
    dice = random.Random(seed)
    kind = kinds(mode)[seed % len(kinds(mode))]
    change = CHANGES.get(kind, nothing)
    case = MODES[mode]
    options = {**case.options, "on_change": dice.choice(("error", "prefix"))}
    # The targets read in steps, so that the upload is under way for a while.
    slow = "latency(op=part, ms=8, times=always)" if case.multipart else f"stall_at(op=put, byte={SIZE // 3}, ms=30)"
    case = Case(seed, SIZE, case.part_size, case.multipart, tls=case.tls, faults=(slow,), options=options)
    wait = dice.uniform(0.0, 0.02)

    def meanwhile(cluster: mock.Cluster, source: Source) -> None:
        assert isinstance(source, Path)
        until = time.monotonic() + 2.0  # a read may have failed before anything was sent
        while time.monotonic() < until and not any(each.op in ("part", "put") for each in cluster.truth.attempts()):
            time.sleep(0.001)
        time.sleep(wait)
        change(source, dice)

    with reads_fail(READ_ERRORS.get(kind, 0), dice.randrange(1, 12) if kind in READ_ERRORS else 0):
        verdict = judge(case, meanwhile=meanwhile)
    harmless = kind in OF_THE_SAME_BYTES or (kind == "grow" and options["on_change"] == "prefix")
    if verdict.bad or (harmless and verdict.outcome != "success"):
        return f"BAD {kind} {seed}: {verdict.outcome} {verdict.message} {verdict.bad}"
    return f"{kind} {verdict.outcome}"


def main() -> None:
    mode, first, count = sys.argv[1:]
    for seed in range(int(first), int(first) + int(count)):
        os.write(1, f"{run(mode, seed)}\n".encode())
    os.write(1, b"done\n")


if __name__ == "__main__":
    main()
