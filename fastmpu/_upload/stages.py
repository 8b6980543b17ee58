"""Where the time of an upload went, and what that suggests.

Threads: a `StageTimes` belongs to whoever fills it, a worker for its part, then the producer, which adds them up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from .._transport import Exchange

# What a worker's time goes to, and the advice if it is the most. The rest happens once, before, between and after.
_ADVICE: Final = {
    "read": "the source's storage decides",
    "checksum": "hashing decides; engine='process' uses more cores",
    "limit": "max_bandwidth decides",
    "redirect": "the proxy decides; larger parts ask it less often",
    "send": "the network decides, or the cluster; more concurrency helps where one connection is slow",
    "server_wait": "more concurrency may help",
    "queue": "parts wait for a free worker; more concurrency may help",
}
_AROUND: Final = ("create", "complete", "verify")
# From here on what surrounds the data decides: it is serial, whatever the concurrency.
_MUCH_AROUND: Final = 0.5


@dataclass
class StageTimes:
    """Seconds, summed over all workers, so that they may exceed the wall time: `read` from the source (through a map:
    bringing pages in), `checksum`, `limit` (waiting for `max_bandwidth`), `queue` (ready, and no worker free),
    `redirect` (asking the proxy for the target), `send` (in the kernel's hands or waiting for room there),
    `server_wait` (from the last byte to the answer). Of the whole upload: `create`, `complete`, `verify`, with their
    retries. While a small object of an `Uploader` waits for its proof no worker waits with it: that is in none of them.
    """

    read: float = 0.0
    checksum: float = 0.0
    limit: float = 0.0
    queue: float = 0.0
    redirect: float = 0.0
    send: float = 0.0
    server_wait: float = 0.0
    create: float = 0.0
    complete: float = 0.0
    verify: float = 0.0

    def add(self, other: StageTimes) -> None:
        for name, seconds in vars(other).items():
            if seconds:
                setattr(self, name, getattr(self, name) + seconds)

    def sent(self, exchange: Exchange) -> None:
        """One attempt with a body; what the source took of it is counted by the body."""
        if exchange.last_sent:
            self.send += max(0.0, exchange.last_sent - exchange.began - exchange.source_seconds)
            if exchange.answered_at:
                self.server_wait += max(0.0, exchange.answered_at - exchange.last_sent)

    def to_dict(self) -> dict[str, float]:
        return {name: round(seconds, 6) for name, seconds in asdict(self).items()}

    def verdict(self, wall: float) -> str:
        """What took the most, in a line: "server wait 71 %: more concurrency may help"; "" for nothing at all."""
        around = sum(getattr(self, name) for name in _AROUND)
        if wall > 0 and around > _MUCH_AROUND * wall:
            most = max(_AROUND, key=lambda name: float(getattr(self, name)))
            share = min(1.0, around / wall)
            return f"{'/'.join(_AROUND)} {share:.0%} of the time, most of it {most}: send more bytes at once"
        total = sum(getattr(self, name) for name in _ADVICE)
        if total <= 0:
            return ""
        name = max(_ADVICE, key=lambda name: float(getattr(self, name)))
        return f"{name.replace('_', ' ')} {getattr(self, name) / total:.0%}: {_ADVICE[name]}"
