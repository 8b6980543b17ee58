"""What is compared: cells of part size x concurrency x engine x checksum (x processes), and rivals at the same part
size and concurrency. Values are checked in here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar, get_args

from .._plan import plan_parts
from .._sizes import format_size, parse_size
from .._upload.config import MAX_CONCURRENCY, MAX_PROCESSES, ChecksumChoice, Engine
from ..errors import UsageError

OURS = "fastmpu"
READ_BACK = "read-back"
RIVALS = ("sdk", "httpx", "sendfile")
SHA256 = "sha256"  # beside the values of the option `checksum`: that, and each part's SHA-256 ahead of it
CHECKSUMS = (*get_args(ChecksumChoice), SHA256)

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """`sender`: "fastmpu", "read-back", or a rival; those have neither engine nor checksum. `processes`: how many
    workers the process engine has; None: as many as it chooses.
    """

    sender: str
    part_size: int
    concurrency: int
    engine: str = ""
    checksum: str = ""
    processes: int | None = None

    def __str__(self) -> str:
        workers = f"{self.processes} processes" if self.processes else ""
        how = f"{format_size(self.part_size)} x {self.concurrency}"
        return ", ".join(filter(None, [self.sender, how, self.engine, workers, self.checksum]))


@dataclass(frozen=True)
class Grid:
    """The values of each axis. `processes` is an axis of the process engine alone. `read_back`: also GET an object
    stored in each part size.
    """

    part_sizes: tuple[int, ...]
    concurrencies: tuple[int, ...]
    engines: tuple[str, ...] = ("auto",)
    checksums: tuple[str, ...] = ("auto",)
    processes: tuple[int, ...] = ()
    against: tuple[str, ...] = ()
    read_back: bool = False

    @classmethod
    def of(
        cls,
        *,
        part_size: str,
        concurrency: str,
        engine: str = "auto",
        checksum: str = "auto",
        processes: str = "",
        against: str = "",
        read_back: bool = False,
    ) -> Grid:
        """From texts with commas between values; UsageError names the value and what is allowed."""
        rivals = _several(against, "against", _one_of("against", RIVALS)) if against else ()
        if "sdk" in rivals and find_spec("aistore") is None:
            raise UsageError("against='sdk': AIStore's SDK is not installed: pip install 'fastmpu[bench]'")
        engines = _several(engine, "engine", _one_of("engine", get_args(Engine)))
        if processes and "process" not in engines:
            raise UsageError(
                f"processes={processes!r}: only engine='process' has them, and engine={engine!r} was given"
            )
        return cls(
            _several(part_size, "part_size", _part_size),
            _several(concurrency, "concurrency", _count("concurrency", MAX_CONCURRENCY)),
            engines,
            _several(checksum, "checksum", _one_of("checksum", CHECKSUMS)),
            _several(processes, "processes", _count("processes", MAX_PROCESSES)) if processes else (),
            rivals,
            read_back,
        )

    def check_size(self, size: int) -> None:
        """PlanError, which is a UsageError, if `size` bytes cannot be cut into these parts."""
        for each in self.part_sizes:
            plan_parts(size, part_size=each)

    def cells(self) -> list[Cell]:
        cells = [
            # The inline engine has one request in flight whatever it is told.
            Cell(OURS, part_size, 1 if engine == "inline" else concurrency, engine, checksum, workers)
            for part_size in self.part_sizes
            for concurrency in self.concurrencies
            for engine in self.engines
            for checksum in self.checksums
            for workers in (self.processes if engine == "process" and self.processes else (None,))
        ]
        cells += [
            Cell(who, size, count) for who in self.against for size in self.part_sizes for count in self.concurrencies
        ]
        cells += [Cell(READ_BACK, part_size, 1) for part_size in self.part_sizes if self.read_back]
        return list(dict.fromkeys(cells))


def _several(text: str, name: str, read: Callable[[str], T]) -> tuple[T, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{name}={text!r}: give one or more values with commas between, and none empty")
    return tuple(dict.fromkeys(read(word) for word in words))


def _part_size(text: str) -> int:
    try:
        count = parse_size(text, "part_size")
    except ValueError as error:
        raise UsageError(str(error)) from None
    if count < 1:
        raise UsageError(f"part_size={text!r}: it must be 1 byte or more")
    return count


def _count(name: str, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= most:
            raise UsageError(f"{name}={text!r}: it must be an int from 1 to {most}")
        return int(text)

    return read


def _one_of(name: str, allowed: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise UsageError(f"{name}={text!r}: use one or more of {', '.join(map(repr, allowed))}")
        return text

    return read
