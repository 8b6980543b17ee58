"""What the verbs do: call the library, hand its answers to render."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import basename
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .. import mock
from .._sizes import parse_size
from .._upload.progress import INTERVAL as PROGRESS_INTERVAL
from .._upload.progress import OnProgress, ProgressEvent
from .._upload.uploader import Transfer, Uploader
from ..ais import parse_uri
from ..ais.names import check_object_name
from ..errors import FastMPUError, UsageError
from .render import Progress, bar_of, complain, show_cluster, show_receipt
from .status import Status, status_of
from .token import Token
from .unfinished import hint


def copy(
    sources: list[str],
    target: str,
    options: Mapping[str, Any],
    endpoint: str | None,
    token: Token,
    *,
    as_json: bool,
    progress: Progress,
) -> Status:
    """Upload each source, several at a time; one that fails does not keep the others from going on."""
    names = _names(sources, target)
    failed: list[Status] = []

    def failure(source: str, error: FastMPUError) -> None:
        complain(error, source)
        failed.append(hint(error, str(options.get("journal") or "auto")) or status_of(error))

    label = sources[0] if len(names) == 1 else f"{len(names)} files"
    with Uploader(endpoint=endpoint, token=token, **options) as uploader, bar_of(progress, label) as on_progress:
        transfers: dict[Transfer, str] = {}
        for source, uri in names.items():
            try:
                transfers[uploader.submit(source, uri)] = source
            except FastMPUError as error:
                failure(source, error)
        for transfer in _as_completed(transfers, on_progress):
            try:
                show_receipt(transfer.result(), as_json=as_json)
            except FastMPUError as error:
                failure(transfers[transfer], error)
    if not failed:
        return Status.done
    return failed[0] if len(names) == 1 else Status.failed


def _as_completed(transfers: Iterable[Transfer], on_progress: OnProgress | None) -> Iterator[Transfer]:
    """In the order in which they end; meanwhile `on_progress` gets the sums over all of them."""
    everything = list(transfers)
    ended: SimpleQueue[Any] = SimpleQueue()
    for each in everything:
        each.add_done_callback(ended.put)
    began = time.monotonic()
    due, left = began, len(everything)
    while left:
        try:
            transfer = ended.get(timeout=PROGRESS_INTERVAL)
        except Empty:
            pass
        else:
            left -= 1
            yield transfer
        # Not for each of thousands: it looks at all of them.
        if on_progress is not None and (not left or time.monotonic() >= due):
            due = time.monotonic() + PROGRESS_INTERVAL
            on_progress(_sum([each.snapshot() for each in everything], time.monotonic() - began))


def _sum(events: list[ProgressEvent], elapsed: float) -> ProgressEvent:
    stages = {event.stage for event in events} - {"waiting", "done"} or {"done"}
    return ProgressEvent(
        total=sum(event.total for event in events),
        sent=sum(event.sent for event in events),
        acked=sum(event.acked for event in events),
        stage="send" if len(stages) > 1 else stages.pop(),
        elapsed=elapsed,
        resumed=sum(event.resumed for event in events),
        files_done=sum(event.files_done for event in events),
        files_total=len(events),
    )


def _names(sources: list[str], target: str) -> dict[str, str]:
    """Source -> URI of its object, all checked before the first byte goes out."""
    if "-" in sources:
        raise UsageError(
            "'-': standard input cannot be uploaded yet; write it to a file first, or pipe it to your own script"
        )
    place = parse_uri(target)
    is_prefix = not place.name or place.name.endswith("/")
    if len(sources) > 1 and not is_prefix:
        raise UsageError(f"{len(sources)} files cannot all be {target}: end the URI with '/' to upload them below it")
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for source in sources:
        name = place.name + basename(source.rstrip("/")) if is_prefix else place.name
        check_object_name(name)
        uri = str(place._replace(name=name))
        other = owners.setdefault(uri, source)
        if other != source or source in names:
            raise UsageError(
                f"{other} and {source} would both become {uri}: upload them one by one, under different names"
            )
        names[source] = uri
    return names


@dataclass(frozen=True)
class MockOptions:
    """`fastmpu mock`'s flags."""

    port: int
    targets: int
    directory: str | None
    memory: str | None
    sink: bool
    quirks: str
    faults: tuple[str, ...]
    faults_file: str | None
    control_port: int | None
    round_trip: float
    bandwidth: str | None
    seed: int | None
    tls: bool


def serve_mock(options: MockOptions, *, as_json: bool) -> Status:
    """Serve until Ctrl-C or SIGTERM."""
    try:
        cluster = _cluster(options)
        cluster.start()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot start the mock cluster: {error}") from error
    try:
        control = None if options.control_port is None else cluster.control
        show_cluster(cluster, control=control, as_json=as_json)
        threading.Event().wait()
    except KeyboardInterrupt:
        return Status.done
    finally:
        cluster.stop()
    return Status.done


def _cluster(options: MockOptions) -> mock.Cluster:
    """ValueError, or OSError for a file of faults, says what is wrong with the options."""
    if options.quirks not in ("v5.0", "fixed"):
        raise ValueError(f"quirks={options.quirks!r}: use 'v5.0' or 'fixed'")
    faults = [mock.parse_fault(text) for text in options.faults]
    if options.faults_file is not None:
        faults += mock.parse_faults(Path(options.faults_file).read_text(encoding="utf-8"))
    rate = parse_size(options.bandwidth, "bandwidth") if options.bandwidth else None
    link = mock.Link(round_trip=options.round_trip, bandwidth_per_node=rate)
    return mock.Cluster(
        targets=options.targets,
        port=options.port,
        directory=options.directory,
        memory_limit=parse_size(options.memory, "memory") if options.memory else None,
        sink=options.sink,
        link=None if link == mock.Link() else link,
        quirks="fixed" if options.quirks == "fixed" else "v5.0",
        seed=options.seed,
        tls="self-made" if options.tls else None,
        faults=faults,
        control_port=options.control_port,
    )
