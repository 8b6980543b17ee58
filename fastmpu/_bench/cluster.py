"""Where the runs go: a mock cluster in a process of its own, or a cluster that exists.

`python -m fastmpu._bench mock OPTIONS`, as JSON, is that process: it prints its endpoint, and ends with its stdin, so
that it never outlives the one that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from ..errors import FastMPUError, UsageError


@dataclass(frozen=True)
class MockOptions:
    """The embedded mock. `round_trip` in seconds, bandwidths in bytes a second; `sink` keeps nothing of objects."""

    targets: int = 3
    sink: bool = False
    round_trip: float = 0.0
    bandwidth_per_connection: float | None = None
    bandwidth_per_node: float | None = None

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise UsageError(f"targets={self.targets}: a cluster has at least 1")
        if not 0 <= self.round_trip <= 60:
            raise UsageError(f"round_trip={self.round_trip}: it must be from 0 to 60 seconds")
        for name in ("bandwidth_per_connection", "bandwidth_per_node"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise UsageError(f"{name}={rate}: it must be more than 0 bytes a second")

    def __str__(self) -> str:
        words = [f"1 proxy, {self.targets} targets", "nothing kept" if self.sink else "in memory"]
        if self.round_trip:
            words.append(f"round trip {self.round_trip * 1000:g} ms")
        for name, rate in (("connection", self.bandwidth_per_connection), ("node", self.bandwidth_per_node)):
            if rate is not None:
                words.append(f"{rate / 1e6:g} MB/s a {name}")
        return f"MOCK cluster, not AIStore ({', '.join(words)}), in a process of its own on the same machine"


@contextmanager
def mock_cluster(options: MockOptions = MockOptions()) -> Iterator[str]:
    """The endpoint of a mock cluster in a process of its own."""
    command = [sys.executable, "-m", __package__, "mock", json.dumps(asdict(options))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            endpoint = child.stdout.readline().strip()
            if not endpoint:
                raise FastMPUError("the mock cluster's process ended before it listened")
            yield endpoint
        finally:
            child.stdin.close()
            child.wait()


def plain_environment() -> dict[str, str]:
    """This process's environment without what points clients to a real cluster: its address, its token, its TLS."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIS_")}


def serve(text: str) -> None:
    """Be that process."""
    from .. import mock  # here, not above: those that measure are to be no larger than an upload

    options = MockOptions(**json.loads(text))
    link = mock.Link(
        round_trip=options.round_trip,
        bandwidth_per_connection=options.bandwidth_per_connection,
        bandwidth_per_node=options.bandwidth_per_node,
    )
    with mock.Cluster(options.targets, sink=options.sink, link=None if link == mock.Link() else link) as cluster:
        sys.stdout.write(cluster.endpoint + "\n")
        sys.stdout.flush()
        try:
            sys.stdin.read()
        except KeyboardInterrupt:  # Ctrl-C reaches the whole group; the one that started us says what it means
            pass
