"""The knobs of an upload: frozen, picklable, checked before anything is sent.

A value comes from the argument, else from the environment (`FASTMPU_PART_SIZE` for `part_size`, and so on), else it is
the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from .._sizes import parse_size
from ..errors import UsageError
from .retry import RetryPolicy

Engine = Literal["auto", "thread", "process", "inline"]
ChecksumChoice = Literal["auto", "crc32c", "xxhash", "none"]
Verify = Literal["none", "size", "head", "probe", "read"]
Reading = Literal["auto", "mmap", "pread"]
Mode = Literal["overwrite", "create"]
OnError = Literal["abort", "keep"]
OnChange = Literal["error", "prefix"]
PartChecksum = Literal["none", "sha256"]
Fence = Literal["answer", "network"]
Resume = Literal["auto", "never", "require"]

MAX_CONCURRENCY = 1024
MAX_PROCESSES = 256
LEAST_BOUND = 1024  # bytes, of max_memory and max_bandwidth; whoever asks for less means another unit
_CHOICES: dict[str, tuple[str, ...]] = {
    "engine": get_args(Engine),
    "checksum": get_args(ChecksumChoice),
    "verify": get_args(Verify),
    "read": get_args(Reading),
    "mode": get_args(Mode),
    "on_error": get_args(OnError),
    "on_change": get_args(OnChange),
    "part_checksum": get_args(PartChecksum),
    "fence": get_args(Fence),
    "resume": get_args(Resume),
}


@dataclass(frozen=True)
class UploadOptions:
    """`part_size`: bytes, "64MiB", or "auto"; larger parts cost fewer requests, smaller ones spread better.
    `multipart_threshold`: sources up to this size go as one plain PUT. `max_concurrency`: requests in flight. `engine`:
    "thread"; "process" to hash and send in `processes` workers, by default one for each other usable core, beside this
    process, which does its share, and all of it in the first second, since a shorter upload does not pay for a worker's
    start; that takes a file and a client without a `transport` or `ssl_context` of its own; "inline" to do all in the
    caller's thread, one part after the other; "auto" takes threads unless SHA-256 or TLS make many cores worth it.
    `checksum`: what is computed while sending. CRC32C ("auto") is what the proof by HEAD needs; "xxhash" adds each
    part's XXH64 to the receipt (and is what plain PUTs are checked with); "none" leaves only the size to be proved.
    `verify`: "head" compares size and checksum with the cluster's own, "read" reads the object back, "size" compares
    only the size, "none" nothing.
    `read`: how files are read. `mode="create"`: refuse an object that exists (looked up first, so not atomic).
    `on_error="keep"`: leave the parts of a failed upload on the cluster instead of aborting. `retry`: for requests that
    the cluster refused in so many words, or that never reached it. `on_change="prefix"`: a file that only grows is
    fine, as logs do; what it had when it was opened is uploaded. `part_checksum="sha256"`: the cluster checks each part
    before it records it; costs SHA-256 here and there. `fence`: what ends an attempt without an answer, see
    docs/reliability.md. `journal`: where uploads in parts are noted, so that they can go on after a crash: "auto" is
    `$XDG_STATE_HOME/fastmpu`, else a path of a database; "off"; "required" fails where "auto" would go on without.
    `resume`: go on with an unfinished upload of the same file to the same object, "never", or "require" it. `deadline`:
    seconds for all of it. `max_memory`: bytes (or "64MiB") that the job's readers may hold at once, maps of files
    included: fewer parts are in flight, and files read into smaller buffers, where it takes that; memory that the
    caller passed does not count. `max_bandwidth`: bytes a second ("100MB"), for the bodies of all requests together.
    `trace`: a file for the times of every request, in the Chrome trace event format, as Perfetto shows it.
    """

    part_size: int | str = "auto"
    multipart_threshold: int | str = "auto"
    max_concurrency: int = 16
    engine: Engine = "auto"
    processes: int | None = None
    checksum: ChecksumChoice = "auto"
    verify: Verify = "head"
    read: Reading = "auto"
    mode: Mode = "overwrite"
    on_error: OnError = "abort"
    on_change: OnChange = "error"
    part_checksum: PartChecksum = "none"
    fence: Fence = "answer"
    journal: str = "auto"
    resume: Resume = "auto"
    deadline: float | None = None
    max_memory: int | str | None = None
    max_bandwidth: int | str | None = None
    trace: str | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name}={getattr(self, name)!r}: use one of {', '.join(map(repr, allowed))}")
        if self.verify == "read" and self.checksum == "none":
            raise UsageError(
                "verify='read' needs a checksum to compare with: leave checksum at 'auto', or verify='size'"
            )
        for name in ("part_size", "multipart_threshold"):
            if getattr(self, name) != "auto":
                object.__setattr__(self, name, _size(getattr(self, name), name))
        for name in ("max_memory", "max_bandwidth"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _at_least(LEAST_BOUND, getattr(self, name), name))
        for name in ("journal", "trace"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        if self.trace is not None and (not isinstance(self.trace, str) or not self.trace or "\0" in self.trace):
            raise UsageError(f"trace={self.trace!r}: it must be the path of a file to write")
        if not isinstance(self.journal, str) or not self.journal or "\0" in self.journal:
            raise UsageError(f"journal={self.journal!r}: use 'auto', 'required', 'off', or the path of a database")
        if self.resume == "require" and self.journal == "off":
            raise UsageError("resume='require' needs a journal: leave journal at 'auto', or give its path")
        if not isinstance(self.retry, RetryPolicy):
            raise UsageError(f"retry={self.retry!r}: it must be a RetryPolicy, as in RetryPolicy(attempts=3)")
        limit = self.deadline
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0):
            raise UsageError(f"deadline={limit!r}: it must be a number of seconds above 0")
        workers = self.processes
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MAX_PROCESSES
        ):
            raise UsageError(f"processes={workers!r}: it must be an int from 1 to {MAX_PROCESSES}")
        count = self.max_concurrency
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_CONCURRENCY:
            raise UsageError(f"max_concurrency={count!r}: it must be an int from 1 to {MAX_CONCURRENCY}")

    @classmethod
    def of(cls, given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> UploadOptions:
        """From arguments and the environment; an argument that is None counts as not given."""
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise UsageError(f"unknown option {unknown[0]!r}: options are {', '.join(sorted(known))}")
        values = {name: value for name, value in given.items() if value is not None}
        for name in known - {"retry"} - set(values):
            text = environment.get(f"FASTMPU_{name.upper()}")
            if text:
                values[name] = _NUMBERS[name](text, name) if name in _NUMBERS else text
        return cls(**values)


def _size(value: int | str, name: str) -> int:
    try:
        return parse_size(value, name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _at_least(least: int, value: int | str, name: str) -> int:
    size = _size(value, name)
    if size < least:
        raise UsageError(f"{name}={value!r}: it must be {least} bytes or more")
    return size


def _number(kind: Callable[[str], Any]) -> Callable[[str, str], Any]:
    def read(text: str, name: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise UsageError(f"FASTMPU_{name.upper()}={text!r} is not a number") from None

    return read


_NUMBERS = {"max_concurrency": _number(int), "processes": _number(int), "deadline": _number(float)}
