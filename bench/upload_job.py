"""One upload of one file, by one of the rivals, measured in this process: `python -m bench.upload_job WHO ENDPOINT FILE
PART_SIZE WORKERS`. Prints the cost as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.measure import in_this_process
from fastmpu._bench import rivals

BUCKET = "bench"


def fastmpu(endpoint: str, path: Path, part_size: int, workers: int, **options: Any) -> Callable[[], object]:
    """Our own, by default hashed and verified by HEAD."""
    from fastmpu import Client, upload  # loaded here: what an import costs is measured elsewhere (bench.startup)

    target = Client(endpoint).bucket(BUCKET).object("fastmpu")
    return lambda: upload(path, target, part_size=part_size, max_concurrency=workers, **options)


def fastmpu_unhashed(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    """Without checksums; the size is verified."""
    return fastmpu(endpoint, path, part_size, workers, checksum="none")


def sdk(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    return rivals.sdk(endpoint, BUCKET, "sdk", path, part_size, workers)


def bare_sockets(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    return rivals.sendfile(endpoint, BUCKET, "bare", path, part_size, workers)


RIVALS = {rival.__name__.replace("_", "-"): rival for rival in (fastmpu, fastmpu_unhashed, sdk, bare_sockets)}


def make_bucket(endpoint: str) -> None:
    """HTTPError if there is one already: what is in it is not ours to remove."""
    _ask(endpoint, "POST", "create-bck")


def remove_bucket(endpoint: str) -> None:
    """With all that is in it."""
    _ask(endpoint, "DELETE", "destroy-bck")


def _ask(endpoint: str, method: str, action: str) -> None:
    data = json.dumps({"action": action}).encode()
    urlopen(Request(f"{endpoint}/v1/buckets/{BUCKET}?provider=ais", data=data, method=method)).close()


if __name__ == "__main__":
    who, endpoint, file, part_size, workers = sys.argv[1:]
    job = RIVALS[who](endpoint, Path(file), int(part_size), int(workers))
    print(json.dumps(asdict(in_this_process(job))))
