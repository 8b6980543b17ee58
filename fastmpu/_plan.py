"""How a source is cut: size and limits in, part ranges out. Pure arithmetic, no I/O.

What AIStore allows decides the bounds: part numbers 1 to 9,999 (10,000 is answered with 500), no empty part, at most
5 GiB a part. Buckets behind another provider add that provider's 5 MiB minimum for every part but the last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, overload

from ._sizes import GiB, KiB, MiB, format_size
from .errors import PlanError

MAX_PARTS: Final = 9_999
MAX_PART_SIZE: Final = 5 * GiB
MAX_SIZE: Final = MAX_PARTS * MAX_PART_SIZE
# The least that S3, GCS and their likes take for a part that is not the last; AIStore itself takes one byte.
REMOTE_MIN_PART_SIZE: Final = 5 * MiB
# Large enough that a request's fixed cost (some ms) vanishes beside its body, small enough that a failed part is cheap
# to send again and that 16 in flight stay at 1 GiB.
AUTO_PART_SIZE: Final = 64 * MiB
# Few parts are made to come out even: as many in the last round as in the others, or, if there is only one round,
# enough of them to use the connections. Not smaller than this, where a request's fixed cost begins to show.
LEAST_AUTO_PART_SIZE: Final = 16 * MiB
EVEN_STEP: Final = 64 * KiB  # whole pages of any system, and little enough to leave the last part its size
FEW_ROUNDS: Final = 4  # a last round that is not full costs less than a fifth of more rounds
# Below two automatic parts a single checked PUT needs fewer requests, may be repeated freely, and is verified by the
# server before it is stored.
AUTO_MULTIPART_THRESHOLD: Final = 128 * MiB


class PartRange(NamedTuple):
    """One part: bytes `offset` to `offset + length` of the source. Numbers count from 1."""

    number: int
    offset: int
    length: int


@dataclass(frozen=True)
class PartRanges(Sequence[PartRange]):
    """The parts of `size` bytes, computed when asked for: 9,999 parts take no more memory than one."""

    size: int
    part_size: int

    def __len__(self) -> int:
        return -(-self.size // self.part_size)

    @overload
    def __getitem__(self, index: int) -> PartRange: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PartRange, ...]: ...
    def __getitem__(self, index: int | slice) -> PartRange | tuple[PartRange, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        at = range(len(self))[index]  # negative indices and IndexError as in a list
        offset = at * self.part_size
        return PartRange(at + 1, offset, min(self.part_size, self.size - offset))


@dataclass(frozen=True)
class Plan:
    """How one object is sent. Picklable.

    `multipart` False means one plain PUT; `parts` then has the one range that covers everything, or none at all when
    the source is empty. `reason` says in a sentence why this part size, for people.
    """

    size: int
    part_size: int
    multipart: bool
    parts: Sequence[PartRange]
    reason: str

    def send_order(self) -> Iterator[int]:
        """Part numbers in the order in which they are to be *started*: 2, 3, ..., n, then 1.

        When part 1 is not the first, AIStore's checksum of the whole object is always CRC32C, which is the one that can
        be put together from the parts' own.
        """
        count = len(self.parts)
        return itertools.chain(range(2, count + 1), range(1, min(count, 1) + 1))


def plan_parts(
    size: int,
    *,
    part_size: int | str = "auto",
    multipart_threshold: int | str = "auto",
    max_concurrency: int = 16,
    provider: str = "ais",
) -> Plan:
    """Cut `size` bytes into parts. All sizes are bytes; PlanError says which value cannot be, and what could.

    `part_size="auto"` takes 64 MiB, or as many full MiB as it takes for 9,999 parts to suffice. Where that makes few
    parts they are smaller, 16 MiB or more, so that `max_concurrency` requests at a time end at about the same time. Up
    to `multipart_threshold` bytes go as one plain PUT: "auto" means 128 MiB, or the part size where one was asked for.
    """
    size = _integer("size", size)
    if not 0 <= size <= MAX_SIZE:
        most = f"{MAX_PARTS:,} parts of {format_size(MAX_PART_SIZE)}"
        raise PlanError(f"size={size} cannot be one object, which has 0 to {MAX_SIZE} bytes ({most})")
    if _integer("max_concurrency", max_concurrency) < 1:
        raise PlanError(f"max_concurrency={max_concurrency}: at least 1 request must be allowed in flight")

    least = max(_ceil_div(size, MAX_PARTS), 1 if provider == "ais" else REMOTE_MIN_PART_SIZE)
    if part_size == "auto":
        chosen, reason = _automatic(size, least, max_concurrency)
        threshold = AUTO_MULTIPART_THRESHOLD
    else:
        chosen, reason = _as_asked(_integer("part_size", part_size), least, size, provider)
        threshold = chosen
    if multipart_threshold != "auto":
        threshold = _integer("multipart_threshold", multipart_threshold)
        if not 0 <= threshold <= MAX_PART_SIZE:
            raise PlanError(f"multipart_threshold={threshold}: one PUT carries 0 to {MAX_PART_SIZE} bytes")

    if size > max(threshold, chosen):
        return Plan(size, chosen, True, PartRanges(size, chosen), reason)
    limit = f"the multipart threshold of {format_size(threshold)}" if size <= threshold else "one part"
    whole = max(size, 1)
    reason = f"one plain PUT: {format_size(size)} is not more than {limit}"
    return Plan(size, whole, False, PartRanges(size, whole), reason)


def _automatic(size: int, least: int, max_concurrency: int) -> tuple[int, str]:
    if least > AUTO_PART_SIZE:
        grown = min(_ceil_div(least, MiB) * MiB, MAX_PART_SIZE)
        return grown, (
            f"{format_size(grown)} a part: {format_size(AUTO_PART_SIZE)} would need more than {MAX_PARTS:,} parts"
        )
    rounds = _ceil_div(_ceil_div(max(size, 1), AUTO_PART_SIZE), max_concurrency)
    if rounds > FEW_ROUNDS:
        return AUTO_PART_SIZE, f"{format_size(AUTO_PART_SIZE)} a part, the automatic choice"
    count = max(1, min(rounds * max_concurrency, size // max(least, LEAST_AUTO_PART_SIZE)))
    chosen = _ceil_div(_ceil_div(size, count), EVEN_STEP) * EVEN_STEP
    return chosen, f"{format_size(chosen)} a part, the automatic choice for {max_concurrency} at a time"


def _as_asked(part_size: int, least: int, size: int, provider: str) -> tuple[int, str]:
    if part_size < least:
        if least == REMOTE_MIN_PART_SIZE and provider != "ais":
            why = f"{provider} takes no smaller part than that, but for the last"
        elif least == 1:
            why = "a part cannot be empty"
        else:
            why = f"an object has at most {MAX_PARTS:,} parts"
        raise PlanError(
            f"part_size={part_size} is too small for {size} bytes: the smallest allowed is {least}, as {why}"
        )
    if part_size > MAX_PART_SIZE:
        raise PlanError(f"part_size={part_size} is too large: a part is at most {MAX_PART_SIZE} bytes")
    return part_size, f"{format_size(part_size)} a part, as asked"


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PlanError(f"{name}={value!r} is not an int")
    return value


def _ceil_div(count: int, by: int) -> int:
    return -(-count // by)
