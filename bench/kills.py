"""Uploads that are killed, or stopped, at random moments, and then go on: what was sent again, and what was lost.

    python -m bench.kills --n 200                       # SIGKILL; thread and process engine in turn
    python -m bench.kills --n 40 --kill-worker          # first a worker process, then its parent
    python -m bench.kills --stop 40                     # SIGSTOP for 40 s, then SIGCONT, once with each engine

Each round uploads 12 parts to a mock cluster with AIStore's losses, in a process of its own, and then the same call is
made again. The truth log tells what was stored how often. The exit code is 1 if anything was lost, or stored twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fastmpu
from bench import killed_upload
from bench.measure import print_machine
from fastmpu import mock
from fastmpu._sizes import format_size, parse_size
from fastmpu.mock.truth import Record

PARTS, IN_FLIGHT = 12, killed_upload.IN_FLIGHT
PARTS_A_SECOND = 46.0  # of the mock's line: there is time to be killed
ENGINES = ("thread", "process")


@dataclass(frozen=True)
class Round:
    """How one upload was interrupted, and how it went on. `in_flight`: bytes of parts that were on their way and were
    not stored; `again`: bytes of parts that were sent a second time."""

    engine: str
    ended: str  # what became of the interrupted process: "killed", "done", or the error it ended with
    begun: int  # parts, when it was interrupted
    known: bool  # the journal had something to go on with
    resumed: int = 0
    restarts: int = 0
    in_flight: int = 0
    again: int = 0
    stored_twice: int = 0
    wrongs: tuple[str, ...] = ()


@dataclass
class Scene:
    """A cluster, a source, and a journal: one round after the other."""

    cluster: mock.Cluster
    path: Path
    journal: Path
    part_size: int = killed_upload.PART_SIZE
    content: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.content = random.Random(6).randbytes((PARTS - 1) * self.part_size + self.part_size // 5)
        self.path.write_bytes(self.content)
        self.cluster.bucket("bucket")

    def killed(self, engine: str, dice: random.Random, *, worker_first: bool = False) -> Round:
        """SIGKILL at a random moment; with `worker_first` to one of the worker processes, and then to the parent."""
        process = self.start(engine)
        self._wait_for(dice.randrange(PARTS + 1), process)
        time.sleep(dice.uniform(0, 0.03))
        if worker_first:
            for worker in children(process.pid)[:1]:
                os.kill(worker, signal.SIGKILL)
            time.sleep(dice.uniform(0, 0.1))
        process.kill()
        begun = self._begun()
        _, words = process.communicate()
        return self.go_on(engine, _how_it_ended(process.returncode, words), begun)

    def stopped(self, engine: str, dice: random.Random, seconds: float, *, clocks: float | None = None) -> Round:
        """SIGSTOP at a random moment, SIGCONT so many `seconds` later. `clocks`: all of the client's, in seconds."""
        process = self.start(engine, seconds="" if clocks is None else str(clocks))
        self._wait_for(dice.randrange(1, PARTS), process)
        process.send_signal(signal.SIGSTOP)
        begun = self._begun()
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        _, words = process.communicate(timeout=120)
        return self.go_on(engine, _how_it_ended(process.returncode, words), begun)

    def start(self, engine: str, event: int = 0, when: str = "", seconds: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, killed_upload.__file__, self.cluster.endpoint, self.path, self.journal, engine]
        more = [str(event), when, seconds, str(self.part_size)]
        # A group of its own, as Ctrl-C in a terminal would otherwise reach it.
        return subprocess.Popen(
            [*map(str, command), *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def go_on(self, engine: str, ended: str, begun: int = 0) -> Round:
        """The same call again, in this process; then the object is removed."""
        truth = self.cluster.truth
        truth.wait_until_quiet(5.0)
        before = truth.attempts(op="part")
        known = bool(fastmpu.unfinished_uploads(journal=str(self.journal)))
        wrongs = []
        receipt = None
        try:
            receipt = fastmpu.upload(
                self.path,
                killed_upload.TARGET,
                endpoint=self.cluster.endpoint,
                journal=str(self.journal),
                part_size=self.part_size,
                max_concurrency=IN_FLIGHT,
                engine=engine,
                processes=2,
            )
        except fastmpu.FastMPUError as error:
            wrongs.append(f"the resume failed: {error!r}")
        truth.wait_until_quiet(5.0)
        bucket = self.cluster.bucket("bucket")
        if receipt is not None:
            wrongs += self._checked(receipt, bucket)
        records = truth.attempts(op="part")
        lost = {_key(each) for each in before} - {_key(each) for each in before if each.outcome == "stored"}
        again = [_key(each) for each in records[len(before) :] if _key(each) in {_key(one) for one in before}]
        stored = [_key(each) for each in records if each.outcome in ("stored", "lost", "unlinked-by-repeat")]
        wrongs += [each for each in truth.violations() if not each.startswith("abort of")]
        if len(again) > IN_FLIGHT:
            wrongs.append(f"{len(again)} parts were sent again, and {IN_FLIGHT} can have been in flight")
        if "object" in bucket:
            bucket.remove("object")
        truth.clear()
        return Round(
            engine,
            ended,
            begun,
            known,
            receipt.resumed if receipt else 0,
            receipt.restarts if receipt else 0,
            sum(map(self._length, lost)),
            sum(map(self._length, again)),
            len(stored) - len(set(stored)),
            tuple(wrongs),
        )

    def _checked(self, receipt: fastmpu.Receipt, bucket: mock.BucketView) -> Iterator[str]:
        if receipt.verified != "head":
            yield f"verified: {receipt.verified}"
        if bucket.read("object") != self.content:
            yield "the object has other bytes"
        if receipt.resumed + sum(part.attempts > 0 for part in receipt.parts) != PARTS:
            yield f"{receipt.resumed} parts were taken over, and the receipt does not add up"
        if fastmpu.unfinished_uploads(journal=str(self.journal)):
            yield "the journal still has an unfinished upload"

    def _length(self, key: tuple[str, int | None]) -> int:
        return self.part_size if key[1] != PARTS else len(self.content) - (PARTS - 1) * self.part_size

    def _begun(self) -> int:
        return len(self.cluster.truth.attempts(op="part"))

    def _wait_for(self, parts: int, process: subprocess.Popen[str]) -> None:
        """Until so many parts were begun, or the process has ended."""
        until = time.monotonic() + 30
        while self._begun() < parts and process.poll() is None:
            if time.monotonic() > until:
                return
            time.sleep(0.002)


def _key(record: Record) -> tuple[str, int | None]:
    return record.upload_id, record.part


def _how_it_ended(status: int, words: str) -> str:
    if status < 0:
        return "killed" if -status == signal.SIGKILL else f"signal {-status}"
    if not status:
        return "done"
    last = words.strip().splitlines()[-1:] or [f"status {status}"]
    return last[0].partition(":")[0].removeprefix("fastmpu.errors.")


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has just ended
    return found


@contextmanager
def scene(directory: Path, part_size: int = killed_upload.PART_SIZE, idle_timeout: float = 30.0) -> Iterator[Scene]:
    """`idle_timeout`: the mock's own clocks."""
    with mock.Cluster(
        targets=3,
        closing_delay=0.02,
        header_timeout=idle_timeout,
        idle_timeout=idle_timeout,
        link=mock.Link(bandwidth_per_node=PARTS_A_SECOND * part_size),
    ) as cluster:
        yield Scene(cluster, directory / "source.bin", directory / "state" / "journal.sqlite3", part_size)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, help="rounds (default 200; with --stop: 2)")
    parser.add_argument("--seed", default="1", help="of the random moments")
    parser.add_argument("--part-size", default="64KiB", help="(default %(default)s)")
    parser.add_argument("--kill-worker", action="store_true", help="a worker process first; all by the process engine")
    parser.add_argument("--stop", type=float, metavar="SECONDS", help="SIGSTOP for so long, instead of SIGKILL")
    options = parser.parse_args(arguments)
    count = options.n or (200 if options.stop is None else len(ENGINES))

    print_machine(["fastmpu"])
    print("against a MOCK of AIStore v5.0 (1 proxy, 3 targets, in memory)")
    dice = random.Random(options.seed)
    rounds = []
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as directory,
        scene(Path(directory), parse_size(options.part_size, "--part-size")) as stage,
    ):
        for number in range(count):
            engine = "process" if options.kill_worker else ENGINES[number % len(ENGINES)]
            if options.stop is not None:
                rounds.append(stage.stopped(engine, dice, options.stop))
            else:
                rounds.append(stage.killed(engine, dice, worker_first=options.kill_worker))
            if (number + 1) % 50 == 0:
                print(f"  {number + 1} done, {sum(bool(each.wrongs) for each in rounds)} bad", file=sys.stderr)
    seconds = time.monotonic() - began
    print(f"{count} rounds in {seconds:.0f} s, seed {options.seed}, {PARTS} parts of {options.part_size}")
    print()
    _print_table(rounds)
    return int(any(each.wrongs or each.stored_twice for each in rounds))


def _print_table(rounds: Sequence[Round]) -> None:
    groups = [[each for each in rounds if each.engine == engine] for engine in ENGINES]
    groups = [group for group in groups if group]

    def row(what: str, values: Sequence[object]) -> None:
        print(f"{what:58}" + "".join(f"{value!s:>12}" for value in values))

    row("", [group[0].engine for group in groups])
    row("uploads interrupted", [len(group) for group in groups])
    for how in sorted({each.ended for each in rounds}):
        row(f"  {how}", [sum(each.ended == how for each in group) for group in groups])
    row("in the middle of their parts", [sum(0 < each.begun < PARTS for each in group) for group in groups])
    row("of which the journal knew", [sum(each.known for each in group) for group in groups])
    row("ended verified, object as its source", [sum(not each.wrongs for each in group) for group in groups])
    row("went on (parts were taken over)", [sum(each.resumed > 0 for each in group) for group in groups])
    row("  parts taken over", [sum(each.resumed for each in group) for group in groups])
    row("began again under a new upload id", [sum(each.restarts > 0 for each in group) for group in groups])
    row("in flight when interrupted, not stored", [format_size(sum(each.in_flight for each in g)) for g in groups])
    row("sent a second time", [format_size(sum(each.again for each in group)) for group in groups])
    row("PARTS STORED TWICE", [sum(each.stored_twice for each in group) for group in groups])
    row("FAILURES", [sum(bool(each.wrongs) for each in group) for group in groups])
    for number, each in enumerate(rounds, 1):
        for wrong in each.wrongs:
            print(f"round {number}, {each.engine}, {each.ended}: {wrong}")


if __name__ == "__main__":
    sys.exit(main())
