"""All that a person, or a pipe, gets to see. The only module that prints."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from os.path import basename
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from .._sizes import format_size

if TYPE_CHECKING:
    from .._upload.progress import ProgressEvent
    from .._upload.receipt import Receipt
    from ..mock import Cluster

FILE_WIDTH = 160  # of a table that goes to a file or a pipe, which has no width of its own
LINE_EVERY = 30.0  # seconds between lines where there is no terminal; CI logs are read by people, too


class Progress(str, Enum):
    """How to show progress."""

    auto = "auto"
    bar = "bar"
    plain = "plain"
    none = "none"


def _stderr() -> Console:
    # Made when needed: the stream may have been replaced since import, as test runners do.
    return Console(stderr=True, highlight=False, soft_wrap=True)


def log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fastmpu: %(message)s"))
    logger = logging.getLogger("fastmpu")
    logger.handlers = [handler]
    logger.setLevel(level)


def say(text: str) -> None:
    """A line for the person, beside the results."""
    _stderr().print(escape(text))


def complain(error: BaseException, about: str = "") -> None:
    """An error in one line, with the notes that came with it."""
    prefix = f"{about}: " if about else ""
    console = _stderr()
    console.print(f"[red]error:[/red] {escape(prefix + str(error))}")
    for note in getattr(error, "__notes__", ()):
        console.print(f"  {escape(note)}")


def show_receipt(receipt: Receipt, *, as_json: bool) -> None:
    print(receipt.to_json() if as_json else str(receipt), flush=True)


def show_json(value: dict[str, object]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def show_cluster(cluster: Cluster, *, control: str | None, as_json: bool) -> None:
    targets = [target.url for target in cluster.targets]
    if as_json:
        told: dict[str, object] = {"endpoint": cluster.endpoint, "targets": targets, "environment": cluster.environment}
        if control is not None:
            told["control"] = control
        print(json.dumps(told), flush=True)
        return
    print(f"mock AIStore cluster: proxy {cluster.endpoint}, targets {' '.join(targets)}")
    if control is not None:
        print(f"control port: {control}")
    print("use it in another shell:")
    for name, value in cluster.environment.items():
        print(f"  export {name}={value}")
    print("  fastmpu cp FILE ais://BUCKET/NAME")
    print("Ctrl-C stops it", flush=True)


@contextmanager
def bar_of(choice: Progress, source: str) -> Iterator[Callable[[ProgressEvent], None] | None]:
    """A progress function for the time of the `with` block; None where nothing is to be shown."""
    console = _stderr()
    if choice is Progress.auto:
        choice = Progress.bar if console.is_terminal else Progress.plain
    if choice is Progress.bar:
        # Here, not above: `fastmpu --help` has no bar.
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        # Receipts come meanwhile: above the bar on a terminal, but into a pipe as they are.
        with RichProgress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
            task = bar.add_task(escape(basename(source)), total=None)

            taken_over = 0

            def on_progress(event: ProgressEvent) -> None:
                nonlocal taken_over
                if event.resumed > taken_over:
                    taken_over = event.resumed
                    bar.reset(task, total=event.total, completed=taken_over)  # so that no rate counts it
                label = (
                    escape(basename(source)) if event.stage == "send" else f"{escape(basename(source))} ({event.stage})"
                )
                bar.update(task, total=event.total, completed=event.acked, description=label)

            yield on_progress
    elif choice is Progress.plain:
        yield PlainLines(source)
    else:
        yield None


class PlainLines:
    """A line every half a minute, for logs."""

    def __init__(self, source: str):
        self._source = source
        self._next = time.monotonic() + LINE_EVERY

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_EVERY
        done = f"{format_size(event.acked)} of {format_size(event.total)}"
        print(f"{self._source}: {done}, {event.stage}, {event.elapsed:.0f} s", file=sys.stderr, flush=True)


def show_table(title: str, columns: list[str], rows: list[list[str]], caption: str) -> None:
    from rich.table import Table  # here, not above: `fastmpu --help` has no table of ours

    table = Table(title=escape(title), caption=escape(caption), title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    console.print(table)
