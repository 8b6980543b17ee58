"""What came out: every single run, and per cell its median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .cost import Cost
from .grid import OURS, READ_BACK, RIVALS, Cell

SCHEMA = "fastmpu-bench/1"


@dataclass(frozen=True)
class Run:
    """One measured run: of the cell at this index, in this repetition (from 1), as which of it (from 1)."""

    cell: int
    repetition: int
    position: int
    cost: Cost


@dataclass
class Report:
    """`label` tells what the cluster was; a mock says so in it. `conditions` are those of the schedule, for the record.

    `document()` is all of it as one JSON document.
    """

    cells: list[Cell]
    size: int
    label: str
    mock: bool
    conditions: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str | None]
    runs: list[Run] = field(default_factory=list)

    def costs(self, cell: int) -> list[Cost]:
        """Of one cell, by repetition."""
        return [run.cost for run in sorted(self.runs, key=lambda run: run.repetition) if run.cell == cell]

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "cluster": {"mock": self.mock, "label": self.label},
            "machine": self.machine,
            "versions": self.versions,
            "conditions": self.conditions,
            "size": self.size,
            "cells": [{**asdict(cell), **self._summary(at)} for at, cell in enumerate(self.cells)],
            "runs": [
                {"cell": run.cell, "repetition": run.repetition, "position": run.position, **asdict(run.cost)}
                for run in self.runs
            ],
        }

    def _summary(self, at: int) -> dict[str, Any]:
        costs = self.costs(at)
        return {
            "wall": _spread([cost.wall for cost in costs]),
            "throughput": _spread([self.size / cost.wall for cost in costs]),
            "cpu_per_gb": _spread([cost.cpu / (self.size / 1e9) for cost in costs]),
            "peak": _spread([cost.peak for cost in costs]),
            "wall_over": {} if self.cells[at].sender == READ_BACK else self._ratios(at, costs),
        }

    def _ratios(self, at: int, costs: list[Cost]) -> dict[str, Any]:
        """This cell's wall time over that of fastmpu's first cell or a rival's, at the same part size and concurrency,
        repetition by repetition: that holds when the machine's speed drifts.
        """
        mine, ratios = self.cells[at], {}
        for sender in (OURS, *RIVALS):
            for other, cell in enumerate(self.cells):
                same = (cell.part_size, cell.concurrency) == (mine.part_size, mine.concurrency)
                if cell.sender == sender and same and sender != mine.sender:
                    pairs = zip(costs, self.costs(other), strict=True)
                    ratios[sender] = _spread([cost.wall / theirs.wall for cost, theirs in pairs])
                    break
        return ratios


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread(values: Sequence[float], form: str) -> str:
    """Median, and minimum to maximum behind it."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"
