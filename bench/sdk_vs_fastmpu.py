"""fastmpu beside AIStore's own SDK and bare sockets: the same file, parts and threads, turn by turn in one run.

    python -m bench.sdk_vs_fastmpu                      # 1 GiB, 16 MiB x 4, against a mock cluster in its own process
    AIS_ENDPOINT=http://host:8080 python -m bench.sdk_vs_fastmpu

Prints median (minimum-maximum) of each, and ratios run by run, which hold when the machine's speed drifts. The bucket
`bench` is made for each run, and removed with what is in it.
"""

from __future__ import annotations

import argparse
import os
import random
from contextlib import nullcontext

from bench.measure import Cost, MiB, in_a_child, mock_cluster, print_machine, random_file, spread
from bench.upload_job import RIVALS, make_bucket, remove_bucket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB (default %(default)s)")
    parser.add_argument("--part-size", type=int, default=16, help="MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="threads (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that is not (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS), help="whom to run")
    options = parser.parse_args()

    live = os.environ.get("AIS_ENDPOINT")
    print_machine(["fastmpu", "aistore", "httpx", "h11", "fastcrc", "crc32c", "numpy"])
    where = f"the cluster {live}" if live else "a MOCK cluster (1 proxy, 3 targets, in memory) in its own process"
    print(f"against {where}")
    print(f"{options.size} MiB in parts of {options.part_size} MiB x {options.workers} threads, {options.runs} runs\n")
    costs: dict[str, list[Cost]] = {who: [] for who in options.only}
    with nullcontext(live) if live else mock_cluster() as endpoint, random_file(options.size * MiB) as path:
        assert endpoint
        chance = random.Random(1)
        for run in range(options.runs + 1):
            # In an order of its own, into an empty bucket: who came first, or replaced what a mock held, paid for it.
            for who in chance.sample(list(costs), len(costs)):
                make_bucket(endpoint)
                cost = in_a_child(
                    "bench.upload_job", who, endpoint, str(path), str(options.part_size * MiB), str(options.workers)
                )
                remove_bucket(endpoint)
                if run:
                    costs[who].append(cost)
    gigabytes = options.size * MiB / 1e9
    print(f"{'':18}{'wall s':>20}{'client CPU s/GB':>24}{'peak RSS + MiB':>22}{'wall, fastmpu = 1':>22}")
    for who, runs in costs.items():
        base = costs.get("fastmpu", runs)
        print(
            f"{who:18}"
            f"{spread([cost.wall for cost in runs], '.2f'):>20}"
            f"{spread([cost.cpu / gigabytes for cost in runs], '.2f'):>24}"
            f"{spread([cost.peak / MiB for cost in runs], '.0f'):>22}"
            f"{spread([cost.wall / own.wall for cost, own in zip(runs, base, strict=True)], '.2f'):>22}"
        )


if __name__ == "__main__":
    main()
