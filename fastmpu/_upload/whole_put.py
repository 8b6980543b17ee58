"""Small and empty objects: one PUT, which the cluster checks before it stores."""

from __future__ import annotations

from functools import partial

from .._plan import PartRange, Plan
from .._transport import Exchange
from ..ais import Object
from .part_body import PartBody
from .part_task import Job, hash_range, with_retries
from .progress import ProgressMeter

# What a plain PUT is checked with, and the other one, for when the cluster skipped the first.
PUT_CHECKSUMS = {"auto": ("crc32c", "xxhash"), "crc32c": ("crc32c", "xxhash"), "xxhash": ("xxhash", "crc32c")}

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

    @property
    def under_way(self) -> int:
        return self._exchange.handed

    def send(self) -> tuple[str, str]:
        """The checksum it was checked with, "type:value" or "", and the object's version.

        If the cluster already has an object of that checksum it stores and checks nothing (protocol 4.1), and a damaged
        object would stay; so then the other checksum is sent.
        """
        used = version = ""
        for kind in PUT_CHECKSUMS.get(self._job.options.checksum, ("",)):
            checksum = (kind, hash_range(self._job.source, self._whole, kind)) if kind else None
            version = with_retries(partial(self._put, checksum), self._job, repeatable=True)
            self._job.source.check()
            used = used or ":".join(checksum or ())
            if version:
                break
        return used, version

    def _put(self, checksum: tuple[str, str] | None) -> str:
        """The version that was stored; "" if the cluster says that it has the object already."""
        self.attempts += 1
        self._exchange = Exchange()
        body = PartBody(self._job.source, self._whole, on_piece=self._meter.tick)
        try:
            response = self._target.put_body(body, checksum=checksum, exchange=self._exchange, cancel=self._job.cancel)
        finally:
            self.bytes_sent += self._exchange.handed
        if not any(name.startswith("ais-") for name in response.headers):
            return ""
        return str(response.headers.get("ais-version", UNVERSIONED))
