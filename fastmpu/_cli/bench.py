"""`fastmpu bench`: which settings are fastest here, and how far that is from others."""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._sizes import MiB, format_size, parse_size
from ..errors import UsageError
from .render import say, show_table
from .status import Status

if TYPE_CHECKING:
    from .._bench import Cell, Report

SEVERAL = "Values with commas between."


def bench(
    file: Annotated[str | None, typer.Option(help="What to upload; default: random data.")] = None,
    size: Annotated[str | None, typer.Option(help="How much random data, as in 256MiB; default 1GiB.")] = None,
    part_size: Annotated[str, typer.Option("--part-size", "-p", help=SEVERAL)] = "8MiB,16MiB,64MiB",
    concurrency: Annotated[str, typer.Option("--concurrency", "-c", help=SEVERAL)] = "1,4,16",
    engine: Annotated[str, typer.Option(help=SEVERAL)] = "auto",
    checksum: Annotated[
        str, typer.Option(help="Values with commas between, and sha256, for each part's SHA-256 in its request.")
    ] = "auto",
    processes: Annotated[str, typer.Option(help="Workers of the process engine, with commas between.")] = "",
    against: Annotated[str, typer.Option(help="Rivals, of sdk, httpx and sendfile (bare sockets: the limit).")] = "",
    runs: Annotated[int, typer.Option(help="Counted repetitions of all cells, after one warm-up.")] = 5,
    read_back: Annotated[bool, typer.Option("--read-back", help="Also GET what was stored in each part size.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order, which differs from repetition to repetition.")] = 1,
    json: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Facts, every run and medians.")] = None,
    plot: Annotated[str | None, typer.Option(metavar="DIR", help="Draw SVGs into it.")] = None,
    sink: Annotated[bool, typer.Option("--sink", help="The mock keeps nothing of objects.")] = False,
    round_trip: Annotated[float, typer.Option(help="Seconds that the mock lets a request and its answer take.")] = 0.0,
    bandwidth: Annotated[
        str | None, typer.Option(help="Bytes a second that the mock takes on each connection, as in 25MB.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of an AIStore proxy; default: a MOCK cluster.", envvar="AIS_ENDPOINT")
    ] = None,
) -> Status:
    """Measure part sizes, concurrencies, engines and checksums, beside rivals, on this machine and your cluster."""
    # Here, not above: --help needs none of it.
    from .._bench import Conditions, Grid, run
    from .._bench.cluster import MockOptions
    from .._bench.plots import check_installed, draw

    if file is not None and size is not None:
        raise UsageError(f"file={file!r} and size={size!r}: give one of them, the file has a size of its own")
    grid = Grid.of(
        part_size=part_size,
        concurrency=concurrency,
        engine=engine,
        checksum=checksum,
        processes=processes,
        against=against,
        read_back=read_back,
    )
    rate = None if bandwidth is None else float(_bytes(bandwidth, "bandwidth"))
    mock = MockOptions(sink=sink, round_trip=round_trip, bandwidth_per_connection=rate)
    conditions = Conditions(
        Path(file) if file else None, _bytes(size or "1GiB", "size"), runs, seed, endpoint or None, mock
    )
    conditions.check(grid)
    if plot is not None:
        check_installed()
        _make_directory(plot)
    _check_writable(json)
    report = run(grid, conditions, _announcer())
    document = report.document()
    if json is not None:
        Path(json).write_text(json_format.dumps(document, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        for path in draw(document, Path(plot)):
            say(f"drawn: {path}")
    _show(report)
    return Status.done


def _bytes(text: str, name: str) -> int:
    try:
        return parse_size(text, name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_writable(file: str | None) -> None:
    """Now rather than after minutes; nothing of it stays, should the bench be interrupted."""
    if file is not None:
        is_new = not Path(file).exists()
        try:
            with open(file, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise UsageError(f"json={file!r}: {error.strerror}; give a file that can be written") from error
        if is_new:
            Path(file).unlink()


def _make_directory(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"plot={path!r}: {error.strerror}; give a directory that can be written") from error


def _announcer() -> Callable[[int, int, Cell], None]:
    began = time.monotonic()

    def announce(done: int, total: int, cell: Cell) -> None:
        left = f", about {(time.monotonic() - began) / done * (total - done):.0f} s left" if done else ""
        say(f"run {done + 1} of {total}{left}: {cell}")

    return announce


def _show(report: Report) -> None:
    from .._bench.machine import machine_line

    cells = report.document()["cells"]
    rivals = list(dict.fromkeys(cell["sender"] for cell in cells if cell["sender"] in ("sdk", "httpx", "sendfile")))
    rows = [
        [
            cell["sender"],
            f"{format_size(cell['part_size'])} x {cell['concurrency']}",
            cell["engine"] + (f" x {cell['processes']}" if cell["processes"] else ""),
            cell["checksum"],
            f"{cell['throughput']['median'] / 1e6:.0f}",
            _spread(cell["wall"]),
            _spread(cell["cpu_per_gb"]),
            f"{cell['peak']['max'] / MiB:.0f}",
            *(f"{cell['wall_over'][who]['median']:.2f}" if who in cell["wall_over"] else "" for who in rivals),
        ]
        for cell in cells
    ]
    machine = machine_line(report.machine, report.versions)
    show_table(
        f"{report.label}: {format_size(report.size)}, medians (min-max) of {report.conditions['runs']} runs",
        ["who", "parts", "engine", "checksum", "MB/s", "wall s", "client CPU s/GB", "peak MiB"]
        + [f"wall, {who}=1" for who in rivals],
        rows,
        f"Peak: the most memory that a run added to the idle interpreter. {machine}",
    )


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}-{values['max']:.2f})"
