"""The same upload, many ways, side by side: `fastmpu bench`. Each run is a process of its own, the ways take turns.

    grid = Grid.of(part_size="8MiB,64MiB", concurrency="1,4", against="sdk,sendfile")
    report = run(grid, Conditions(runs=5))
    report.document()

Read it top down: `grid` says what is compared, `schedule` who runs when, `job` what one run does, `cost` what it took.
"""

from __future__ import annotations

from .grid import Cell, Grid
from .report import Report, Run
from .schedule import Conditions, run

__all__ = ["Cell", "Conditions", "Grid", "Report", "Run", "run"]
