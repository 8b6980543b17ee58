"""How fast the mock is as a sink: with a client beside it, and under many small objects.

    python -m bench.mock_speed                   # 1 GiB by fastmpu, then 20,000 objects of 1 KiB from bare sockets
    python -m bench.mock_speed --count 5000 --runs 3

The mock has a process of its own, and so has what loads it: two cores for both together. Small objects go straight to
a target, as a client that computes owners sends them, and by the proxy, which makes two requests of each.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from bench.measure import Cost, MiB, in_a_child, in_this_process, print_machine, random_file, spread
from bench.upload_job import fastmpu, make_bucket
from fastmpu._bench.cluster import MockOptions
from fastmpu._bench.cluster import mock_cluster as mock_process

LARGE, SMALL = "large", "small"
BUCKET = "bench"
BODY = bytes(1024)
LARGE_JOBS: dict[str, dict[str, str]] = {
    "fastmpu, nothing hashed": {"checksum": "none", "verify": "none", "journal": "off"},
    "fastmpu as it comes": {},
}
WAYS = {"straight to a target": "direct", "by the proxy": "redirected"}


class Line:
    """A connection that is kept. One request, one answer, without a body."""

    def __init__(self, authority: str) -> None:
        host, _, port = authority.rpartition(":")
        self._head = f" HTTP/1.1\r\nHost: {authority}\r\nContent-Length: "
        self._socket = socket.create_connection((host.strip("[]"), int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def put(self, target: str, body: bytes) -> bytes:
        """The answer's head."""
        self._socket.sendall(f"PUT {target}{self._head}{len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            some = self._socket.recv(4096)
            if not some:
                raise ConnectionError("the mock has closed the connection")
            answer += some
        return answer

    def close(self) -> None:
        self._socket.close()


def put_objects(endpoint: str, way: str, names: list[str]) -> None:
    """PUT objects one after the other, by redirects or with the marker of the first one."""
    lines = {"": Line(urlsplit(endpoint).netloc)}
    marker, authority = "", ""
    try:
        for name in names:
            path = f"/v1/objects/{BUCKET}/{name}?provider=ais"
            if way == "redirected" or not marker:
                answer = lines[""].put(path, b"")
                location = urlsplit(answer.partition(b"Location: ")[2].partition(b"\r\n")[0].decode())
                marker, authority = location.query.removeprefix("provider=ais"), location.netloc
            if authority not in lines:
                lines[authority] = Line(authority)
            answer = lines[authority].put(path + marker, BODY)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"{name}: {answer.splitlines()[0].decode()}")
    finally:
        for line in lines.values():
            line.close()


def load(endpoint: str, way: str, count: int, connections: int) -> None:
    """So many objects, dealt out to so many connections, each with a thread."""
    names = [f"{way}/{number}" for number in range(count)]
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(lambda start: put_objects(endpoint, way, names[start::connections]), range(connections)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large object (default %(default)s)")
    parser.add_argument("--part-size", type=int, default=16, help="MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="the client's threads (default %(default)s)")
    parser.add_argument("--count", type=int, default=20_000, help="small objects (default %(default)s)")
    parser.add_argument("--connections", type=int, default=4, help="for small objects (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that is not (default %(default)s)")
    options = parser.parse_args()

    print_machine(["fastmpu"])
    large: dict[str, list[float]] = {who: [] for who in LARGE_JOBS}
    small: dict[str, list[float]] = {how: [] for how in WAYS}
    mock = MockOptions(sink=True)
    print(f"against a {mock}\n")
    with mock_process(mock) as endpoint, random_file(options.size * MiB) as file:
        make_bucket(endpoint)
        for turn in range(options.runs + 1):
            for who in LARGE_JOBS:
                sizes = str(options.part_size * MiB), str(options.workers)
                cost = in_a_child("bench.mock_speed", LARGE, endpoint, who, str(file), *sizes)
                large[who] += [options.size * MiB / 1e9 / cost.wall] * (turn > 0)
            for how, way in WAYS.items():
                cost = in_a_child(
                    "bench.mock_speed", SMALL, endpoint, way, str(options.count), str(options.connections)
                )
                small[how] += [options.count / cost.wall] * (turn > 0)
    print(f"{options.size} MiB in parts of {options.part_size} MiB x {options.workers} threads, GB/s, goal 1.5:")
    for who, rates in large.items():
        print(f"  {who:24}{spread(rates, '.2f'):>22}")
    print(f"objects of {len(BODY)} bytes over {options.connections} connections, PUT/s, goal 3,000:")
    for how, rates in small.items():
        print(f"  {how:24}{spread(rates, '.0f'):>22}")


def child(kind: str, endpoint: str, *arguments: str) -> Cost:
    """What is measured, in a process of its own."""
    if kind == LARGE:
        who, file, part_size, workers = arguments
        return in_this_process(fastmpu(endpoint, Path(file), int(part_size), int(workers), **LARGE_JOBS[who]))
    way, count, connections = arguments
    return in_this_process(lambda: load(endpoint, way, int(count), int(connections)))


if __name__ == "__main__":
    if sys.argv[1:2] in ([LARGE], [SMALL]):
        print(json.dumps(asdict(child(*sys.argv[1:]))))
    else:
        main()
