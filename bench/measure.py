"""The package's own way to measure, for the commands in here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from fastmpu._bench.cluster import MockOptions
from fastmpu._bench.cluster import mock_cluster as mock_process
from fastmpu._bench.cost import Cost, in_a_child, in_this_process
from fastmpu._bench.files import random_file
from fastmpu._bench.report import spread
from fastmpu._sizes import MiB, parse_size

__all__ = ["Cost", "MiB", "in_a_child", "in_this_process", "mock_cluster", "print_machine", "random_file", "spread"]


@contextmanager
def mock_cluster(line: str | None = None, round_trip: float = 0.0) -> Iterator[str]:
    """The endpoint of a mock cluster in a process of its own; `line`: bytes a second to each node, as in "300MB";
    `round_trip`: seconds that a request and its answer take."""
    rate = None if line is None else float(parse_size(line, "line"))
    with mock_process(MockOptions(bandwidth_per_node=rate, round_trip=round_trip)) as endpoint:
        yield endpoint


def print_machine(packages: Sequence[str]) -> None:
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    print(f"machine: {platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"python {platform.python_version()}; {', '.join(versions)}")
