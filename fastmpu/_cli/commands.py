"""What the verbs do: call the library, hand its answers to render."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import basename
from pathlib import Path
from typing import Any

from .. import mock
from .._sizes import parse_size
from .._upload import UploadOptions, upload
from ..ais import Client, parse_uri
from ..ais.names import check_object_name
from ..errors import FastMPUError, UsageError
from .render import Progress, bar_of, complain, show_cluster, show_receipt
from .status import Status, status_of
from .unfinished import hint


def copy(
    sources: list[str],
    target: str,
    options: Mapping[str, Any],
    endpoint: str | None,
    *,
    as_json: bool,
    progress: Progress,
) -> Status:
    """Upload each source; one that fails does not keep the others from going on."""
    names = _names(sources, target)
    UploadOptions.of(options)
    failed: list[Status] = []
    with Client(endpoint) as client:
        for source, uri in names.items():
            try:
                with bar_of(progress, source) as on_progress:
                    receipt = upload(source, uri, client=client, progress=on_progress, **options)
            except FastMPUError as error:
                complain(error, source)
                failed.append(hint(error, str(options.get("journal") or "auto")) or status_of(error))
            else:
                show_receipt(receipt, as_json=as_json)
    if not failed:
        return Status.done
    return failed[0] if len(names) == 1 else Status.failed


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
