"""`upload()`: from whatever the caller has to one finished, proved object."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .._plan import Plan, plan_parts
from .._source import Source, resolve
from ..ais import Client, Object, Secret, parse_uri
from ..ais.credentials import TokenSource, held
from ..errors import InvalidNameError, ObjectExistsError, UsageError
from .cancel import CancelEvent
from .config import UploadOptions
from .engine import engine_for, obstacle_to_processes, usable_cores
from .job_log import JobLog, new_entry, open_log
from .journal import Entry
from .lease_guard import LeaseGuard
from .pipeline import Upload
from .progress import OnProgress
from .receipt import Receipt
from .stale import pending_aborts, retry_aborts
from .verify import patiently

if TYPE_CHECKING:
    from .process_transport import ProcessTransport


def upload(
    source: Any,
    target: str | Object,
    *,
    client: Client | None = None,
    endpoint: str | None = None,
    token: str | Secret | TokenSource | None = None,
    progress: OnProgress | None = None,
    cancel: CancelEvent | None = None,
    **options: Any,
) -> Receipt:
    """Store `source`, a path or a C-contiguous buffer (bytes, memoryview, ndarray), as one object. No reader of the
    object ever sees half of it; when this returns it has been proved to the level of `verify`.

    `target`: an Object, or "ais://bucket/name"; a name that ends in "/", or none, takes the file's own. `client`, or
    `endpoint` and `token` for one of this call's own (default: `AIS_ENDPOINT`, `AIS_AUTHN_TOKEN`). `progress` is called
    with ProgressEvents in this thread. `cancel`: an event, as threading.Event; set it, from any thread, to stop:
    attempts are ended, the upload is aborted, and Cancelled is raised. `options` are the fields of UploadOptions,
    keyword by keyword.

    Raises UsageError before any request; SourceChangedError if the file changed meanwhile; UploadError and its leaves
    when the upload was given up, after aborting it. An upload in parts of a file whose process was killed goes on where
    it was when the same call is made again (`journal`, `resume`); UploadInProgressError while another job is at it.
    """
    secret: Secret | TokenSource | None = held(token)
    del token  # no frame shows it from here on
    chosen = UploadOptions.of(options)
    if progress is not None and not callable(progress):
        raise UsageError(f"progress={progress!r}: it must be a function that takes a ProgressEvent")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise UsageError(f"cancel={cancel!r}: it must be an event, as threading.Event()")
    with ExitStack() as stack:
        data = stack.enter_context(resolve(source, read=chosen.read, on_change=chosen.on_change))
        stack.enter_context(LeaseGuard(data))
        obj = target if isinstance(target, Object) else _object(target, data, source, client, endpoint, secret, stack)
        plan = plan_parts(
            data.size,
            part_size=chosen.part_size,
            multipart_threshold=chosen.multipart_threshold,
            max_concurrency=chosen.max_concurrency,
            provider=obj.bucket.provider,
        )
        if chosen.mode == "create" and obj.exists():
            raise ObjectExistsError(f'{obj.uri} exists, and mode="create" was asked for', object_name=obj.uri)
        chosen, processes = _engine(chosen, data, obj, plan, stack)
        log = JobLog(None, None)
        if plan.multipart:
            log = open_log(chosen.journal, partial(_note, obj, data, plan, chosen))
            stack.callback(log.close)
        pending = pending_aborts(log)
        try:
            return Upload(data, obj, plan, chosen, progress, cancel, log, processes).run()
        finally:
            retry_aborts(pending, log, obj.bucket.client)


def _engine(
    chosen: UploadOptions, data: Source, obj: Object, plan: Plan, stack: ExitStack
) -> tuple[UploadOptions, ProcessTransport | None]:
    """The options with the engine that really runs, and its processes, which end with the stack."""
    endpoint = obj.bucket.client.endpoint
    engine = engine_for(
        chosen,
        size=plan.size,
        multipart=plan.multipart,
        tls=endpoint.origin.scheme == "https",
        obstacle=obstacle_to_processes(data, endpoint.elsewhere),
        cores=usable_cores(),
    )
    processes = None
    if engine == "process":
        from .process_transport import ProcessTransport  # here, not above: nobody else needs what it imports

        lanes = min(chosen.max_concurrency, len(plan.parts))
        count = chosen.processes or usable_cores()
        processes = stack.enter_context(ProcessTransport(data, endpoint.elsewhere.tls, count, lanes))
    return replace(chosen, engine=engine), processes


def _note(obj: Object, data: Source, plan: Plan, options: UploadOptions) -> Entry:
    """What the journal says of this job."""
    endpoint = obj.bucket.client.endpoint
    return new_entry(
        cluster=patiently(endpoint.cluster_map, options.retry).uuid,
        endpoint=str(endpoint.origin),
        uri=obj.uri,
        source=data.name if data.identity is not None else None,
        identity=data.identity,
        size=plan.size,
        part_size=plan.part_size,
        settings={"checksum": options.checksum},
    )


def _object(
    uri: str,
    data: Source,
    source: Any,
    client: Client | None,
    endpoint: str | None,
    token: Secret | TokenSource | None,
    stack: ExitStack,
) -> Object:
    if not isinstance(uri, str):
        raise UsageError(f"the target must be an Object or a URI such as 'ais://bucket/name', not {type(uri).__name__}")
    place = parse_uri(uri)
    name = place.name
    if not name or name.endswith("/"):
        if not isinstance(source, (str, os.PathLike)):
            raise InvalidNameError(
                f"{uri!r} names no object, and {data.name} has no name of its own: write ais://bucket/name"
            )
        name += os.path.basename(os.fsdecode(source))
    if client is None:
        client = stack.enter_context(Client(endpoint, token=token))
    return client.bucket(place.bucket, place.provider, place.namespace).object(name)
