"""One run of one cell, measured in this process, which is one of its own: `python -m fastmpu._bench job TASK`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .._upload.uploader import upload
from ..ais import Client
from . import rivals
from .cost import in_this_process
from .grid import OURS, READ_BACK, SHA256, Cell


@dataclass(frozen=True)
class Task:
    """What the process that measures is told."""

    cell: Cell
    endpoint: str
    bucket: str
    name: str
    path: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Task:
        told = json.loads(text)
        return cls(**{**told, "cell": Cell(**told["cell"])})


def do(text: str) -> None:
    """Do a Task, and print its Cost as JSON."""
    task = Task.of(text)
    cost = in_this_process(_job(task), workers=task.cell.engine in ("auto", "process"))
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


def _job(task: Task) -> Callable[[], object]:
    cell, path = task.cell, Path(task.path)
    if cell.sender not in (OURS, READ_BACK):
        rival: Callable[..., Callable[[], object]] = getattr(rivals, cell.sender)
        return rival(task.endpoint, task.bucket, task.name, path, cell.part_size, cell.concurrency)
    target = Client(task.endpoint).bucket(task.bucket).object(task.name)
    if cell.sender == READ_BACK:
        return lambda: sum(len(piece) for piece in target.get_reader())
    # All as it comes but what the cell says; in parts also where one would do, and never on with an older upload.
    options: dict[str, Any] = {"multipart_threshold": 1, "max_concurrency": cell.concurrency, "resume": "never"}
    hashed = {"part_checksum": SHA256} if cell.checksum == SHA256 else {"checksum": cell.checksum}
    options |= {"engine": cell.engine, **hashed}
    if cell.processes:
        options["processes"] = cell.processes
    return lambda: upload(path, target, part_size=cell.part_size, **options)
