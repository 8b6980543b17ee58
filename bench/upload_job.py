"""One upload of one file, by one of the rivals, measured in this process: `python -m bench.upload_job WHO ENDPOINT FILE
PART_SIZE WORKERS`. Prints the cost as JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import Request, urlopen

from bench.measure import in_this_process

BUCKET = "bench"


def fastmpu(endpoint: str, path: Path, part_size: int, workers: int, **options: str) -> Callable[[], object]:
    """Our own, by default hashed and verified by HEAD."""
    import fastmpu

    client = fastmpu.Client(endpoint)
    target = client.bucket(BUCKET).object("fastmpu")
    return lambda: target.upload(path, part_size=part_size, max_concurrency=workers, **options)


def fastmpu_unhashed(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    """Without checksums; the size is verified."""
    return fastmpu(endpoint, path, part_size, workers, checksum="none")


def sdk(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    """AIStore's SDK as in its notebook: bytes parts from a pool of threads; no checksum, no verification."""
    from aistore.sdk import Client

    target = Client(endpoint).bucket(BUCKET).object("sdk")
    count = -(-path.stat().st_size // part_size)

    def job() -> None:
        upload = target.multipart_upload().create()

        def put(number: int) -> None:
            with path.open("rb") as source:
                source.seek((number - 1) * part_size)
                upload.add_part(number).put_content(source.read(part_size))

        with ThreadPoolExecutor(max_workers=workers) as pool:
            list(pool.map(put, range(1, count + 1)))
        upload.complete()

    return job


def bare_sockets(endpoint: str, path: Path, part_size: int, workers: int) -> Callable[[], object]:
    """The limit: blocking sockets and sendfile, no hash, no check of anything but the status line."""
    url = f"{endpoint}/v1/objects/{BUCKET}/bare?provider=ais"
    size = path.stat().st_size
    count = -(-size // part_size)

    def connect(place: SplitResult) -> socket.socket:
        return socket.create_connection((place.hostname or "", place.port or 80))

    def ask(method: str, target: str, action: object) -> tuple[SplitResult, str]:
        """An action, followed from the proxy to the target: where it ended, and the answer's body."""
        place = urlsplit(target)
        body = json.dumps(action).encode()
        head = f"{method} {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        with connect(place) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        heads, _, text = answer.partition("\r\n\r\n")
        if " 307 " in heads.partition("\r\n")[0]:
            return ask(method, heads.partition("Location: ")[2].partition("\r\n")[0], action)
        assert " 200 " in heads.partition("\r\n")[0], answer
        return place, text

    def job() -> None:
        address, upload_id = ask("POST", url, {"action": "mpt-upload"})

        def send(numbers: range) -> None:
            with path.open("rb") as source, connect(address) as connection:
                for number in numbers:
                    at = (number - 1) * part_size
                    length = min(part_size, size - at)
                    target = f"/v1/objects/{BUCKET}/bare?{address.query}&uploadId={upload_id}&partNumber={number}"
                    head = f"PUT {target} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {length}\r\n\r\n"
                    connection.sendall(head.encode())
                    end = at + length
                    while at < end:
                        at += os.sendfile(connection.fileno(), source.fileno(), at, end - at)
                    answer = connection.recv(65536)
                    assert answer.startswith(b"HTTP/1.1 200 "), answer

        with ThreadPoolExecutor(max_workers=workers) as pool:
            list(pool.map(send, [range(1 + first, count + 1, workers) for first in range(workers)]))
        parts = [{"part-number": number, "etag": ""} for number in range(1, count + 1)]
        ask("POST", f"{url}&uploadId={upload_id}", {"action": "mpt-complete", "value": parts})

    return job


RIVALS = {rival.__name__.replace("_", "-"): rival for rival in (fastmpu, fastmpu_unhashed, sdk, bare_sockets)}


def make_bucket(endpoint: str) -> None:
    action = json.dumps({"action": "create-bck"}).encode()
    urlopen(Request(f"{endpoint}/v1/buckets/{BUCKET}?provider=ais", data=action, method="POST")).close()


if __name__ == "__main__":
    who, endpoint, file, part_size, workers = sys.argv[1:]
    job = RIVALS[who](endpoint, Path(file), int(part_size), int(workers))
    print(json.dumps(asdict(in_this_process(job))))
