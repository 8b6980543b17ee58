"""One source to one object: opened, planned, noted, sent, proved.

Runs in whatever thread goes through its steps, which is that upload's producer (parts_run.py); what it opens it closes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from .._plan import Plan, plan_parts
from .._source import Source, resolve
from ..ais import Object
from ..ais.object import Put
from ..errors import Cancelled, DeadlineError, ObjectExistsError
from .bandwidth import Bandwidth
from .cancel import CancelEvent, CancelFlag
from .config import UploadOptions
from .engine import engine_for, obstacle_to_processes, usable_cores
from .job_log import JobLog, new_entry, open_log
from .journal import Entry
from .lease_guard import LeaseGuard
from .pipeline import Steps, Upload
from .progress import OnProgress
from .receipt import Receipt
from .resources import Resources
from .stale import pending_aborts, retry_aborts
from .verify import patiently

if TYPE_CHECKING:
    from .process_transport import ProcessTransport


def upload_steps(
    source: Any,
    target: Object,
    resources: Resources,
    *,
    progress: OnProgress | None = None,
    cancel: CancelEvent | None = None,
    in_lane: bool = False,
    started: Callable[[Upload], object] | None = None,
) -> Steps:
    """What `upload` does when all it was given is known to be good, from proof to proof. `in_lane`: the calling thread
    is one of those that send, so nothing here may wait for another of them. `started` gets the upload before its first
    request.
    """
    chosen = resources.inline if in_lane else resources.options
    with ExitStack() as stack:
        data = stack.enter_context(resolve(source, read=chosen.read, on_change=chosen.on_change))
        stack.enter_context(LeaseGuard(data))
        plan = plan_for(data.size, chosen, target)
        if chosen.mode == "create" and target.exists():
            raise ObjectExistsError(f'{target.uri} exists, and mode="create" was asked for', object_name=target.uri)
        chosen, reason, processes = _engine(chosen, data, target, plan, resources.bandwidth, stack)
        log = JobLog(None, None)
        if plan.multipart:
            log = open_log(chosen.journal, partial(_note, target, data, plan, chosen, cancel))
            stack.callback(log.close)
        pending = pending_aborts(log)
        one = Upload(data, target, plan, chosen, progress, cancel, log, resources, processes, reason)
        if started is not None:
            started(one)
        try:
            return (yield from one.steps())
        finally:
            retry_aborts(pending, log, target.bucket.client)


def to_the_end(steps: Steps, by_map: Callable[[Put], bool], answer: bool | None = None) -> Receipt:
    """What is left of the steps, in this thread. `answer` is to the last question, None if none was asked yet; `by_map`
    answers further ones."""
    with closing(steps):
        try:
            put = next(steps) if answer is None else steps.send(answer)
            while True:
                put = steps.send(by_map(put))
        except StopIteration as end:
            receipt: Receipt = end.value
            return receipt


def plan_for(size: int, options: UploadOptions, target: Object) -> Plan:
    """How `size` bytes are cut for this object."""
    limits = options.part_size, options.multipart_threshold, options.max_concurrency
    return _planned(size, *limits, target.bucket.provider)


@lru_cache(maxsize=4096)  # an Uploader asks when it is given a source, and again when its turn comes
def _planned(size: int, part_size: int | str, threshold: int | str, max_concurrency: int, provider: str) -> Plan:
    return plan_parts(
        size,
        part_size=part_size,
        multipart_threshold=threshold,
        max_concurrency=max_concurrency,
        provider=provider,
    )


def _engine(
    chosen: UploadOptions, data: Source, target: Object, plan: Plan, bandwidth: Bandwidth | None, stack: ExitStack
) -> tuple[UploadOptions, str, ProcessTransport | None]:
    """The options with the engine that really runs, why it does, and its processes, which end with the stack."""
    endpoint = target.bucket.client.endpoint
    elsewhere = endpoint.elsewhere
    engine, reason = engine_for(
        chosen,
        size=plan.size,
        parts=len(plan.parts) if plan.multipart else 0,
        tls=endpoint.origin.scheme == "https",
        obstacle=obstacle_to_processes(data, elsewhere) if plan.multipart or chosen.engine == "process" else "",
        cores=usable_cores() if plan.multipart else 1,
    )
    processes = None
    if engine == "process":
        from .process_transport import ProcessTransport  # here, not above: nobody else needs what it imports

        lanes = min(chosen.max_concurrency, len(plan.parts))
        count = chosen.processes or max(1, usable_cores() - 1)
        silence, here = endpoint.timeouts.stall_seconds, endpoint.transport
        processes = stack.enter_context(ProcessTransport(data, here, elsewhere.tls, count, lanes, silence, bandwidth))
    return chosen if engine == chosen.engine else replace(chosen, engine=engine), reason, processes


def _note(target: Object, data: Source, plan: Plan, options: UploadOptions, cancel: CancelEvent | None) -> Entry:
    """What the journal says of this job. The first that is asked of the cluster, which may not answer."""
    endpoint = target.bucket.client.endpoint
    stop = CancelFlag(cancel, options.deadline)
    try:
        cluster = patiently(partial(endpoint.cluster_map, cancel=stop), options.retry, stop).uuid
    except Cancelled as error:
        if not stop.requested:
            why = f"{target.uri}: not finished within deadline={options.deadline} s: {error}"
            raise DeadlineError(why, object_name=target.uri) from error
        raise Cancelled(f"{target.uri}: cancelled on request", object_name=target.uri) from error
    return new_entry(
        cluster=cluster,
        endpoint=str(endpoint.origin),
        uri=target.uri,
        source=data.name if data.identity is not None else None,
        identity=data.identity,
        size=plan.size,
        part_size=plan.part_size,
        settings={"checksum": options.checksum},
    )
