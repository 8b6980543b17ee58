"""How exactly `max_bandwidth` is kept, over about five seconds: one upload at each rate, concurrency and engine.

    python -m bench.bandwidth                           # against a mock cluster (a sink) in its own process
    AIS_ENDPOINT=http://host:8080 python -m bench.bandwidth

Prints the bytes a second from the first byte that went out to the last, which leaves out `create`, `complete` and the
start of worker processes, and how far that is from what was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from bench.measure import Cost, in_a_child, print_machine, random_file, spread
from bench.upload_job import BUCKET, make_bucket
from fastmpu._bench.cluster import MockOptions
from fastmpu._bench.cluster import mock_cluster as mock_process
from fastmpu._sizes import MiB

JOB = "job"
PART_SIZE = 4 * MiB
CASES = ((20, 1, "thread"), (20, 16, "thread"), (200, 4, "thread"), (200, 32, "thread"), (200, 8, "process"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each upload (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each case (default %(default)s)")
    options = parser.parse_args()

    live = os.environ.get("AIS_ENDPOINT")
    print_machine(["fastmpu"])
    print(f"against {f'the cluster {live}' if live else 'a MOCK cluster (a sink) in its own process'}")
    print(f"uploads of {options.seconds:g} s each, {options.runs} runs\n")
    print(f"{'asked for':>12}{'in flight':>12}{'engine':>10}{'taken, MB/s':>28}{'off by, %':>26}")
    with nullcontext(live) if live else mock_process(MockOptions(sink=True)) as endpoint:
        assert endpoint
        make_bucket(endpoint)
        for rate, concurrency, engine in CASES:
            size = int(rate * 1e6 * options.seconds)
            with random_file(size) as file:
                arguments = [JOB, endpoint, str(file), str(concurrency), engine, f"{rate}MB"]
                costs: list[Cost] = [in_a_child("bench.bandwidth", *arguments) for _ in range(options.runs)]
            rates = [size / cost.wall / 1e6 for cost in costs]
            print(
                f"{rate:>7} MB/s{concurrency:>12}{engine:>10}{spread(rates, '.2f'):>28}"
                f"{spread([100 * (each / rate - 1) for each in rates], '+.2f'):>26}"
            )


def flow(endpoint: str, file: Path, concurrency: int, engine: str, rate: str) -> Cost:
    """A limited upload; `wall` is the time that the file takes at the rate that was seen."""
    from fastmpu import Client, ProgressEvent

    seen: list[ProgressEvent] = []
    Client(endpoint).bucket(BUCKET).object("limited").upload(
        file,
        part_size=PART_SIZE,
        max_concurrency=concurrency,
        engine=engine,
        max_bandwidth=rate,
        progress=seen.append,
    )
    moving = [event for event in seen if event.sent and event.stage == "send"]
    first, last = moving[0], moving[-1]
    bytes_a_second = (last.sent - first.sent) / (last.elapsed - first.elapsed)
    return Cost(file.stat().st_size / bytes_a_second, 0.0, 0)


if __name__ == "__main__":
    if sys.argv[1:2] == [JOB]:
        endpoint, file, concurrency, engine, rate = sys.argv[2:]
        print(json.dumps(asdict(flow(endpoint, Path(file), int(concurrency), engine, rate))))
    else:
        main()
