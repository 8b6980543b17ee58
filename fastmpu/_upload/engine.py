"""Which engine sends the parts: one pure choice, and what this machine offers."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final, NamedTuple

from .._sizes import GiB, format_size
from .._source import Source
from ..ais.tls import Elsewhere
from ..errors import UsageError
from .config import Engine, UploadOptions

# Starting a worker costs some 0.1 s of CPU (docs/decisions/2026-11-23-process-engine.md); of this, it is a few percent.
WORTH_PROCESSES: Final = 1 * GiB
ENOUGH_CORES: Final = 3  # below, threads use up what there is, and the cluster's side of loopback wants some too


class Chosen(NamedTuple):
    """An engine, and why it is this one."""

    engine: Engine
    reason: str


def engine_for(options: UploadOptions, *, size: int, parts: int, tls: bool, obstacle: str, cores: int) -> Chosen:
    """What "auto" means here; any other engine is what was asked for, or UsageError.

    `parts`: 0 for a plain PUT, which is "inline": one request. `obstacle`: why processes cannot do it, "" if they can.
    """
    if options.engine == "process" and obstacle:
        raise UsageError(f"engine='process' cannot be had: {obstacle}. Or use engine='thread'")
    if not parts:
        return Chosen("inline", "one request needs no other thread")
    at_once = min(parts, options.max_concurrency)
    if options.engine == "process" and at_once == 1:
        return Chosen("thread", "one request at a time leaves nothing to share out among processes")
    if options.engine != "auto":
        return Chosen(options.engine, "as asked")
    heavy = "SHA-256" if options.part_checksum == "sha256" else "TLS" if tls else ""
    if not heavy:
        return Chosen("thread", "the kernel sends, and CRC32C leaves the GIL: one core feeds the network")
    if size < WORTH_PROCESSES:
        return Chosen("thread", f"{heavy} is heavy, but {format_size(size)} do not pay for starting processes")
    if cores < ENOUGH_CORES:
        return Chosen("thread", f"{heavy} is heavy, but threads use up {cores} cores")
    if at_once == 1:
        return Chosen("thread", f"{heavy} is heavy, but one request at a time keeps one core busy")
    if obstacle:
        return Chosen("thread", f"{heavy} is heavy, but {obstacle}")
    return Chosen("process", f"{heavy} keeps cores busy, and there are {cores}")


def obstacle_to_processes(source: Source, elsewhere: Elsewhere) -> str:
    """Why worker processes cannot send this source with this client, and what would help; "" if they can."""
    if not hasattr(socket, "send_fds"):
        return "this system does not pass open files from one process to another"
    if not sys.executable or getattr(sys, "frozen", False):
        return "this program has no Python interpreter that could be started for a worker"
    if descriptor_of(source) is None:
        return f"{source.name} lies in this process's memory, where no other can read it; write it to a file first"
    return elsewhere.obstacle


def descriptor_of(source: Source) -> int | None:
    """The open file behind a source, which stays the source's; None for memory."""
    with source.open_part(0, 0) as reader:
        return reader.fileno


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
