"""A document of `fastmpu bench --json` as SVGs: the same bytes for the same document, and the mock named on each.

matplotlib draws them, since it needs nothing but itself; what else the project may draw with needs a browser for files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._sizes import format_size
from ..errors import UsageError
from .grid import OURS, READ_BACK, RIVALS
from .machine import machine_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Document = dict[str, Any]
Rows = list[dict[str, Any]]
STYLE: Any = {"svg.hashsalt": "fastmpu", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}


def check_installed() -> None:
    if find_spec("matplotlib") is None:
        raise UsageError("plot=...: pictures need matplotlib, which is not installed: pip install 'fastmpu[report]'")


def draw(document: Document, directory: Path) -> list[Path]:
    """Write those pictures that the document has cells for; returns their paths."""
    check_installed()
    import matplotlib

    directory.mkdir(parents=True, exist_ok=True)
    ours = [cell for cell in document["cells"] if cell["sender"] == OURS]
    others = [cell for cell in document["cells"] if cell["sender"] in RIVALS]
    back = [cell for cell in document["cells"] if cell["sender"] == READ_BACK]
    drawn = []
    with matplotlib.rc_context(STYLE):
        if ours:
            drawn.append(_save(document, directory / "throughput.svg", lambda axes: _throughput(axes, ours, others)))
            drawn.append(_save(document, directory / "cpu.svg", lambda axes: _cpu(axes, ours)))
        if ours and others:
            drawn.append(_save(document, directory / "rivals.svg", lambda axes: _rivals(axes, ours, others)))
        if back:
            drawn.append(_save(document, directory / "read-back.svg", lambda axes: _read_back(axes, back)))
    return drawn


def _save(document: Document, path: Path, paint: Callable[[Axes], None]) -> Path:
    from matplotlib.figure import Figure  # not pyplot: no display, no state of its own

    figure: Figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    paint(axes)
    axes.set_ylim(bottom=0)
    size, runs = format_size(document["size"]), document["conditions"]["runs"]
    axes.set_title(f"{axes.get_title()}: {size}, median of {runs}, bars from min to max")
    figure.suptitle(
        document["cluster"]["label"], color="firebrick" if document["cluster"]["mock"] else "black", fontsize=9
    )
    line = machine_line(document["machine"], document["versions"])
    figure.supxlabel(line.replace("; ", "\n"), fontsize=6, color="gray")
    figure.savefig(path, metadata={"Date": None, "Creator": "fastmpu bench"})
    return path


def _throughput(axes: Axes, ours: Rows, others: Rows) -> None:
    axes.set_title("fastmpu's throughput")
    _lines(axes, ours, "throughput", 1e6)
    limit = [cell for cell in others if cell["sender"] == "sendfile"]
    if limit:
        best = max(cell["throughput"]["median"] for cell in limit) / 1e6
        axes.axhline(best, color="gray", linestyle=":", label="bare sockets at their best")
    axes.set_ylabel("MB/s")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))


def _cpu(axes: Axes, ours: Rows) -> None:
    axes.set_title("fastmpu's CPU")
    _lines(axes, ours, "cpu_per_gb", 1)
    axes.set_ylabel("client CPU, s/GB")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))


def _lines(axes: Axes, rows: Rows, figure: str, unit: float) -> None:
    """A line for each way, over the part sizes, evenly spaced."""
    sizes = sorted({cell["part_size"] for cell in rows})
    for way in dict.fromkeys(map(_way, rows)):
        chosen = sorted((cell for cell in rows if _way(cell) == way), key=lambda cell: int(cell["part_size"]))
        at = [sizes.index(cell["part_size"]) for cell in chosen]
        medians, bars = _bars(chosen, figure, unit)
        axes.errorbar(at, medians, yerr=bars, marker="o", capsize=3, label=way)
    _name(axes, [format_size(size) for size in sizes])
    axes.set_xlabel("part size")


def _way(cell: dict[str, Any]) -> str:
    workers = f" of {cell['processes']}" if cell["processes"] else ""
    return f"{cell['engine']}{workers}, {cell['checksum']}, {cell['concurrency']} in flight"


def _rivals(axes: Axes, ours: Rows, others: Rows) -> None:
    """Bars side by side, a group for each part size and concurrency. Of ours the first engine and checksum."""
    axes.set_title("Side by side")
    first = (ours[0]["engine"], ours[0]["processes"], ours[0]["checksum"])
    ours = [cell for cell in ours if (cell["engine"], cell["processes"], cell["checksum"]) == first]
    groups = sorted({_place(cell) for cell in others})
    senders = [OURS, *dict.fromkeys(cell["sender"] for cell in others)]
    width = 0.8 / len(senders)
    for index, sender in enumerate(senders):
        chosen = [cell for cell in (*ours, *others) if cell["sender"] == sender and _place(cell) in groups]
        at = [groups.index(_place(cell)) + (index - (len(senders) - 1) / 2) * width for cell in chosen]
        medians, bars = _bars(chosen, "throughput", 1e6)
        label = f"fastmpu ({first[0]}, {first[2]}, proved)" if sender == OURS else sender
        axes.bar(at, medians, width, yerr=bars, capsize=2, label=label)
    _name(axes, [f"{format_size(size)}\nx {concurrency}" for size, concurrency in groups])
    axes.set_ylabel("MB/s")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))


def _place(cell: dict[str, Any]) -> tuple[int, int]:
    return cell["part_size"], cell["concurrency"]


def _read_back(axes: Axes, back: Rows) -> None:
    axes.set_title("One GET, by the size of the stored parts")
    medians, bars = _bars(back, "throughput", 1e6)
    axes.bar(range(len(back)), medians, 0.6, yerr=bars, capsize=3)
    _name(axes, [format_size(cell["part_size"]) for cell in back])
    axes.set_ylabel("MB/s")


def _bars(rows: Rows, figure: str, unit: float) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far minimum and maximum are from them."""
    spreads = [cell[figure] for cell in rows]
    medians = [each["median"] / unit for each in spreads]
    below = [(each["median"] - each["min"]) / unit for each in spreads]
    return medians, [below, [(each["max"] - each["median"]) / unit for each in spreads]]


def _name(axes: Axes, names: Iterable[str]) -> None:
    labels = list(names)
    axes.set_xticks(range(len(labels)), labels)
