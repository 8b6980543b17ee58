"""What safety costs: fastmpu as it comes (checksums while sending, proof by HEAD, journal) beside fastmpu
with all of it off, and with the journal alone off.

    python -m bench.safety_cost                         # 1 GiB, 16 MiB x 4; a mock cluster, with lines of 1 GB/s
    python -m bench.safety_cost --line none             # as fast as the cores go that client and mock share
    AIS_ENDPOINT=http://host:8080 python -m bench.safety_cost

Turn by turn in one run, the order swapped each time. Prints throughput and CPU of both, and ratios run by run, which
hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from bench.measure import Cost, MiB, in_a_child, in_this_process, mock_cluster, print_machine, random_file, spread
from bench.upload_job import fastmpu, make_bucket

JOB = "job"
DEFAULT, UNNOTED, NOTHING = "default", "without journal", "none"
OPTIONS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    UNNOTED: {"journal": "off"},
    NOTHING: {"checksum": "none", "verify": "none", "journal": "off"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB (default %(default)s)")
    parser.add_argument("--part-size", type=int, default=16, help="MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="threads (default %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="counted runs, after one that is not (default %(default)s)")
    parser.add_argument(
        "--line",
        default="1GB",
        help="bytes a second that the mock's line to each node takes; none: as many as it can (default %(default)s)",
    )
    options = parser.parse_args()

    line = None if options.line == "none" else options.line
    live = os.environ.get("AIS_ENDPOINT")
    print_machine(["fastmpu", "fastcrc", "httpx"])
    where = f"the cluster {live}" if live else "a MOCK cluster (1 proxy, 3 targets, in memory) in its own process"
    print(f"against {where}{f', lines of {line}/s' if line and not live else ''}")
    print(f"{options.size} MiB in parts of {options.part_size} MiB x {options.workers} threads, {options.runs} runs\n")
    costs: dict[str, list[Cost]] = {who: [] for who in OPTIONS}
    with nullcontext(live) if live else mock_cluster(line) as endpoint, random_file(options.size * MiB) as file:
        assert endpoint
        make_bucket(endpoint)
        for turn in range(options.runs + 1):
            for who in list(OPTIONS)[:: 1 if turn % 2 else -1]:
                cost = in_a_child(
                    "bench.safety_cost",
                    JOB,
                    who,
                    endpoint,
                    str(file),
                    str(options.part_size * MiB),
                    str(options.workers),
                )
                if turn:
                    costs[who].append(cost)
    print(f"{'':24}{'GB/s':>20}{'client CPU s per GB':>26}{'peak memory MiB':>22}")
    gigabytes = options.size * MiB / 1e9
    for who, runs in costs.items():
        print(
            f"{who:24}{spread([gigabytes / each.wall for each in runs], '.2f'):>20}"
            f"{spread([each.cpu / gigabytes for each in runs], '.3f'):>26}"
            f"{spread([each.peak / MiB for each in runs], '.0f'):>22}"
        )
    pairs = list(zip(costs[DEFAULT], costs[NOTHING], strict=True))
    print(
        f"\nthroughput, safe / unsafe: {spread([off.wall / on.wall for on, off in pairs], '.3f')}   goal: 0.97 and more"
    )
    print(f"CPU, safe / unsafe:        {spread([on.cpu / off.cpu for on, off in pairs], '.2f')}")
    noted = list(zip(costs[DEFAULT], costs[UNNOTED], strict=True))
    print(
        f"throughput, noted / unnoted: {spread([off.wall / on.wall for on, off in noted], '.3f')}   goal: 0.99 and more"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [JOB]:  # the child that is measured
        who, endpoint, file, part_size, workers = sys.argv[2:]
        job = fastmpu(endpoint, Path(file), int(part_size), int(workers), **OPTIONS[who])
        print(json.dumps(asdict(in_this_process(job))))
    else:
        main()
