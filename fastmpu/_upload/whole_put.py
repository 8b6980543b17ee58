"""Small and empty objects: one PUT, which the cluster checks before it stores."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from .._checksum import new_checksum
from .._plan import PartRange, Plan
from .._sizes import KiB
from .._source import PartReader
from .._transport import BufferBody, Exchange, unhindered, waiter
from ..ais import Object
from ..ais.object import Put
from .hash_range import hash_range
from .part_task import Job, with_retries
from .progress import ProgressMeter
from .stages import StageTimes

# What a plain PUT is checked with, and the other one, for when the cluster skipped the first.
PUT_CHECKSUMS = {"auto": ("crc32c", "xxhash"), "crc32c": ("crc32c", "xxhash"), "xxhash": ("xxhash", "crc32c")}

# Bytes of a file that are read once, and hashed and sent from there: so many go out with their head in one call of the
# kernel.
READ_ONCE: Final = 64 * KiB

UNVERSIONED = "-"  # a bucket that counts no versions


class WholePut:
    """Puts the source as one object, in the caller's thread. `send()` once."""

    def __init__(self, job: Job, plan: Plan, target: Object, meter: ProgressMeter):
        self._job = job
        self._whole = PartRange(1, 0, plan.size)
        self._target = target
        self._meter = meter
        self._exchange = Exchange()
        self.attempts = 0
        self.bytes_sent = 0
        self.spent = StageTimes()
        self.checked: Put | None = None
        """The one attempt there was, if the target compared our checksum with its own before it stored (protocol 4.1).
        If that target owns the name, a HEAD would say no more."""

    @property
    def under_way(self) -> int:
        return self._exchange.handed

    def send(self) -> tuple[str, str]:
        """The checksum it was checked with, "type:value" or "", and the object's version.

        If the cluster already has an object of that checksum it stores and checks nothing (protocol 4.1), and a damaged
        object would stay; so then the other checksum is sent.
        """
        length = self._whole.length
        if length > READ_ONCE or self._job.resources.bandwidth is not None:
            return self._send(None)
        with self._job.source.open_part(0, length) as reader, self._read(reader) as content:
            return self._send(content)

    def _read(self, reader: PartReader) -> memoryview:
        """All of it, as it is now; whether it has changed is asked of the source itself."""
        began = time.monotonic()
        content = None if waiter() is None else reader.at_hand(0, self._whole.length)
        if content is None:
            content = unhindered(lambda: reader.view(0, self._whole.length))
        self.spent.read += time.monotonic() - began
        return content

    def _send(self, content: memoryview | None) -> tuple[str, str]:
        used = version = ""
        for kind in PUT_CHECKSUMS.get(self._job.options.checksum, ("",)):
            began = time.monotonic()
            checksum = (kind, self._checksum(content, kind)) if kind else None
            self.spent.checksum += time.monotonic() - began
            version = with_retries(partial(self._put, content, checksum), self._job, repeatable=True)
            self._job.source.check()
            used = used or ":".join(checksum or ())
            if version:
                break
        return used, version

    def _checksum(self, content: memoryview | None, kind: str) -> str:
        if content is None:
            return hash_range(self._job.source, self._whole, kind)[kind]
        checksum = new_checksum(kind)
        checksum.update(content)
        return checksum.hexdigest()

    def _put(self, content: memoryview | None, checksum: tuple[str, str] | None) -> str:
        """The version that was stored; "" if the cluster says that it has the object already."""
        self.attempts += 1
        self._exchange = exchange = Exchange()
        body = self._job.body(self._whole, on_piece=self._meter.tick) if content is None else BufferBody(content)
        try:
            reply, put = self._target.put_body(body, checksum=checksum, exchange=exchange, cancel=self._job.cancel)
        finally:
            self.attempts += exchange.resent
            self.bytes_sent += exchange.handed
            if isinstance(body, BufferBody):
                body.release()
            else:
                self.spent.add(body.spent)
            self.spent.sent(exchange)
            if self._job.resources.trace is not None:
                self._job.resources.trace.attempt(self._target.uri, exchange, self.attempts)
        headers = {name.lower(): value.decode("latin-1") for name, value in reversed(reply.fields)}
        if not any(name.startswith(b"ais-") for name in headers):
            return ""
        stored = headers.get(b"ais-checksum-type", "").replace("xxhash2", "xxhash")  # one value, two names
        value = headers.get(b"ais-checksum-value", "")
        checked = checksum is not None and stored and (stored != checksum[0] or value == checksum[1])
        self.checked = put if checked and self.attempts == 1 else None
        return headers.get(b"ais-version", UNVERSIONED)
