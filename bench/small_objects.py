"""Many small objects: `Uploader.submit` beside AIStore's own SDK and bare sockets, turn by turn in one run.

    python -m bench.small_objects                       # 3,000 objects of 64 KiB, a mock cluster in its own process
    python -m bench.small_objects --round-trip 0.02     # the mock cluster is far away
    AIS_ENDPOINT=http://host:8080 python -m bench.small_objects

fastmpu hashes each file and proves each object; the SDK, in a pool of threads, and bare sockets, as the limit, do
neither. All three send each object in two requests, one to the proxy and one to the target; the SDK's first has the
body, too. Prints objects a second, and ratios run by run, which hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from bench.measure import Cost, in_a_child, in_this_process, mock_cluster, print_machine, spread
from bench.mock_speed import Line
from bench.upload_job import BUCKET, make_bucket, remove_bucket
from fastmpu._sizes import KiB

JOB = "job"


def fastmpu(endpoint: str, files: list[Path], prefix: str, workers: int) -> Callable[[], object]:
    """As it comes."""
    from fastmpu import Client, Uploader

    bucket = Client(endpoint).bucket(BUCKET)

    def job() -> None:
        with Uploader(bucket.client, max_concurrency=workers) as uploader:
            transfers = [uploader.submit(file, bucket.object(prefix + file.name)) for file in files]
            for transfer in transfers:
                transfer.result()

    return job


def fastmpu_on_one_core(endpoint: str, files: list[Path], prefix: str, workers: int) -> Callable[[], object]:
    """The same, kept on one core, as by `taskset -c`: threads that hand the interpreter over need not wake another."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return fastmpu(endpoint, files, prefix, workers)


def sdk(endpoint: str, files: list[Path], prefix: str, workers: int) -> Callable[[], object]:
    """AIStore's SDK from a pool of threads."""
    from aistore.sdk import Client

    bucket = Client(endpoint, max_pool_size=workers).bucket(BUCKET)

    def put(file: Path) -> None:
        bucket.object(prefix + file.name).get_writer().put_file(file)

    return lambda: _in_threads(put, files, workers)


def bare_sockets(endpoint: str, files: list[Path], prefix: str, workers: int) -> Callable[[], object]:
    """Kept connections and threads; nothing is looked at but the redirect."""
    proxy = endpoint.partition("//")[2]
    lines: SimpleQueue[dict[str, Line]] = SimpleQueue()
    for _ in range(workers):
        lines.put({})

    def put(file: Path) -> None:
        own = lines.get()
        target = f"/v1/objects/{BUCKET}/{prefix}{file.name}?provider=ais"
        answer = own.setdefault(proxy, Line(proxy)) if proxy not in own else own[proxy]
        location = answer.put(target, b"").partition(b"Location: http://")[2].partition(b"\r\n")[0].decode()
        authority, _, path = location.partition("/")
        if authority not in own:
            own[authority] = Line(authority)
        own[authority].put(f"/{path}", file.read_bytes())
        lines.put(own)

    return lambda: _in_threads(put, files, workers)


def _in_threads(put: Callable[[Path], None], files: list[Path], workers: int) -> None:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for future in [pool.submit(put, file) for file in files]:
            future.result()


_PINNED = (fastmpu_on_one_core,) if hasattr(os, "sched_setaffinity") else ()
RIVALS = {rival.__name__.replace("_", "-"): rival for rival in (fastmpu, *_PINNED, sdk, bare_sockets)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=3000, help="objects (default %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="KiB of each (default %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="threads (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that is not (default %(default)s)")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds, of the mock (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS), help="whom to run")
    options = parser.parse_args()

    live = os.environ.get("AIS_ENDPOINT")
    print_machine(["fastmpu", "aistore", "httpx", "h11", "fastcrc", "crc32c"])
    mock = f"a MOCK cluster (1 proxy, 3 targets, in memory, {options.round_trip * 1e3:g} ms away) in its own process"
    where = f"the cluster {live}" if live else mock
    print(f"against {where}")
    print(f"{options.count} objects of {options.size} KiB x {options.workers} threads, {options.runs} runs\n")
    costs: dict[str, list[Cost]] = {who: [] for who in options.only}
    cluster = nullcontext(live) if live else mock_cluster(round_trip=options.round_trip)
    with cluster as endpoint, tempfile.TemporaryDirectory() as directory:
        assert endpoint
        for number in range(options.count):
            (Path(directory) / f"{number:06}").write_bytes(os.urandom(options.size * KiB))
        for turn in range(options.runs + 1):
            for who in costs:
                # Under names of its own: a put of what is there already stores nothing (protocol 4.1). And into an
                # empty bucket, so that a mock, which keeps all in memory, is as large for one as for the next.
                make_bucket(endpoint)
                arguments = [JOB, who, endpoint, directory, f"{who}-{turn}/", str(options.workers)]
                cost = in_a_child("bench.small_objects", *arguments)
                remove_bucket(endpoint)
                if turn:
                    costs[who].append(cost)
    print(f"{'':21}{'objects/s':>24}{'client CPU ms each':>24}{'rate, sdk = 1':>24}")
    for who, runs in costs.items():
        base = costs.get("sdk", runs)
        print(
            f"{who:21}"
            f"{spread([options.count / cost.wall for cost in runs], '.0f'):>24}"
            f"{spread([cost.cpu / options.count * 1e3 for cost in runs], '.2f'):>24}"
            f"{spread([other.wall / cost.wall for cost, other in zip(runs, base, strict=True)], '.2f'):>24}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == [JOB]:
        who, endpoint, directory, prefix, workers = sys.argv[2:]
        job = RIVALS[who](endpoint, sorted(Path(directory).iterdir()), prefix, int(workers))
        print(json.dumps(asdict(in_this_process(job))))
    else:
        main()
