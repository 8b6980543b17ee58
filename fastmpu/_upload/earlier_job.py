"""What an earlier job has left on the cluster: an upload to go on with, or the object, if it came that far."""

from __future__ import annotations

import logging

from .._plan import Plan
from .._source import Source
from ..ais import MultipartUpload, Object
from ..errors import Cancelled, FastMPUError, ResumeError, UploadLostError
from .fence import StartAgain, ask
from .part_task import PART_CHECKSUMS, Job
from .process_end import wait_until_over
from .recall import Recall, stored_before
from .receipt import combined
from .verify import Expected, Stored, is_there

logger = logging.getLogger("fastmpu")


def finished_before(
    target: Object, mpu: MultipartUpload, source: Source, plan: Plan, job: Job, recalled: Recall
) -> Stored | None:
    """The object as the earlier job made it; None for an upload to go on with. Waits until nothing of that job is under
    way any more. One gap probe. StartAgain if the cluster has neither."""
    entry = recalled.entry
    if not wait_until_over(entry.boot, entry.updated, target.bucket.client.endpoint.cluster_map().ports, job.cancel):
        raise Cancelled("stopped while the earlier job's requests were coming to their end")
    try:
        probe = ask(mpu, job.cancel)
    except UploadLostError as error:
        stored = _as_stored(target, source, plan, job.options.checksum, recalled)
        if stored is None or not is_there(target, stored.expected):
            raise StartAgain(error, abort=False) from error
        logger.info("%s was completed by the earlier job", target.uri)
        return stored
    least = len(recalled.acknowledged)
    if probe is None or not least <= probe.count <= least + len(recalled.begun):
        # Parts that nobody noted must not be sent again (protocol H1), and which they are cannot be told.
        raise StartAgain(
            ResumeError(
                f"upload {mpu.upload_id} of {target.uri}: the journal has {least} parts acknowledged and "
                f"{len(recalled.begun)} begun, and the cluster {probe}",
                **mpu.ledger.names(),
            )
        )
    return None


def _as_stored(target: Object, source: Source, plan: Plan, checksum: str, recalled: Recall) -> Stored | None:
    """The object as the earlier job would have made it, hashed here where its notes end; None if what is there cannot
    be it."""
    try:
        props = target.head()
    except FastMPUError:
        return None
    kinds = PART_CHECKSUMS[checksum]
    if props.size != plan.size or props.checksum_type != "crc32c" or not kinds:
        return None
    parts = [stored_before(source, part, kinds, recalled.acknowledged.get(part.number)) for part in plan.parts]
    source.check()
    expected = Expected(plan.size, combined(parts), recalled.entry.upload_id, len(parts))
    return Stored(expected, recalled.entry.upload_id, tuple(parts), tuple(parts))
