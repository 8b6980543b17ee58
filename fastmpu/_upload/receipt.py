"""What an upload did, for the caller and for the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from .._checksum import combine_all
from .._sizes import format_size
from .stages import StageTimes


@dataclass(frozen=True)
class PartReceipt:
    """One part as it was sent. `checksums` by type, in AIStore's hex forms."""

    number: int
    offset: int
    length: int
    checksums: dict[str, str]
    attempts: int
    seconds: float


@dataclass(frozen=True)
class Receipt:
    """A finished upload.

    `size` in bytes. `checksum`: "crc32c:e3069283" of the whole source, as computed while it was sent; "" for
    `checksum="none"`. `verified`: the level that was really reached ("none", "size", "head", "probe", "read"). `parts`
    is empty for a plain PUT, `upload_id` too. `read`: how the source was read last ("mmap", "pread", "memory").
    `attempts`: requests that carried data. `probes`: gap probes, after parts without an answer. `restarts`: new upload
    ids after the first. `resumed`: parts that an earlier job had stored; their `attempts` are 0. `bytes_sent`: in the
    bodies of all attempts of this job. `engine_reason`: why this engine. `max_concurrency`: what `max_memory` and
    `max_bandwidth` left of it. `stages`: where the time went; `verdict` says it in a line. `seconds` of wall time from
    the first request to the proof.
    """

    uri: str
    source: str
    size: int
    checksum: str
    verified: str
    seconds: float
    upload_id: str
    part_size: int
    parts: tuple[PartReceipt, ...]
    attempts: int
    probes: int
    restarts: int
    resumed: int
    bytes_sent: int
    read: str
    engine: str
    engine_reason: str
    max_concurrency: int
    stages: StageTimes
    version: int = 1

    @property
    def throughput(self) -> float:
        """Bytes per second, without those that an earlier job had stored."""
        fresh = self.size - sum(part.length for part in self.parts if not part.attempts)
        return fresh / self.seconds if self.seconds else 0.0

    @property
    def verdict(self) -> str:
        """Which stage took the most, and what that suggests; "" for an empty object."""
        return self.stages.verdict(self.seconds)

    def to_json(self) -> str:
        """One line of JSON with stable names; `version` counts incompatible changes."""
        more = {"stages": self.stages.to_dict(), "throughput": round(self.throughput), "verdict": self.verdict}
        return json.dumps({**asdict(self), **more}, ensure_ascii=False)

    def __str__(self) -> str:
        proof = f"verified by {self.verified}" if self.verified != "none" else "not verified"
        return (
            f"{self.uri}: {format_size(self.size)} in {self.seconds:.2f} s, {format_size(self.throughput)}/s, {proof}"
        )


def combined(parts: Iterable[PartReceipt]) -> str:
    """The whole object's checksum, from those of all its parts in order."""
    crc = combine_all((int(part.checksums["crc32c"], 16), part.length) for part in parts)
    return f"crc32c:{crc:08x}"
