"""How others upload the same file in the same parts. Each function returns its job, ready to run. Nothing is hashed,
nothing is verified; a token is taken from `AIS_AUTHN_TOKEN`.

Threads: each job's own pool, ended with the job.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

Job = Callable[[], object]


def sdk(endpoint: str, bucket: str, name: str, path: Path, part_size: int, concurrency: int) -> Job:
    """AIStore's SDK as in its notebook: bytes parts from a pool of threads."""
    from aistore.sdk import Client  # no dependency of fastmpu

    target = Client(endpoint).bucket(bucket).object(name)
    count = -(-path.stat().st_size // part_size)

    def job() -> None:
        upload = target.multipart_upload().create()

        def put(number: int) -> None:
            upload.add_part(number).put_content(_read(path, (number - 1) * part_size, part_size))

        with ThreadPoolExecutor(max_workers=concurrency) as pool:
            list(pool.map(put, range(1, count + 1)))
        upload.complete()

    return job


def httpx(endpoint: str, bucket: str, name: str, path: Path, part_size: int, concurrency: int) -> Job:
    """httpx.Client and threads: each part is asked for at the proxy without its body, and sent where that points."""
    import httpx  # the module and this function have the same right to the name

    context: ssl.SSLContext | bool = True
    if endpoint.startswith("https:"):
        context = ssl.create_default_context(cafile=os.environ.get("AIS_CLIENT_CA") or None)
    url = f"{endpoint}/v1/objects/{bucket}/{name}"
    query = {"provider": "ais"}
    count = -(-path.stat().st_size // part_size)

    def job() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        with httpx.Client(timeout=None, limits=limits, trust_env=False, headers=_token(), verify=context) as client:

            def follow(method: str, parameters: dict[str, str], content: bytes | None) -> httpx.Response:
                # An action is small and goes with its question, a part waits for the answer.
                action = content if method == "POST" else None
                answer = client.request(method, url, params={**query, **parameters}, content=action)
                if answer.status_code == 307:
                    answer = client.request(method, answer.headers["location"], content=content)
                return answer.raise_for_status()

            upload_id = follow("POST", {}, json.dumps({"action": "mpt-upload"}).encode()).text

            def put(number: int) -> None:
                part = _read(path, (number - 1) * part_size, part_size)
                follow("PUT", {"uploadId": upload_id, "partNumber": str(number)}, part)

            with ThreadPoolExecutor(max_workers=concurrency) as pool:
                list(pool.map(put, range(1, count + 1)))
            follow("POST", {"uploadId": upload_id}, _complete(count))

    return job


def sendfile(endpoint: str, bucket: str, name: str, path: Path, part_size: int, concurrency: int) -> Job:
    """The limit: blocking sockets and sendfile, straight to the target, no check of anything but the status line."""
    url = f"{endpoint}/v1/objects/{bucket}/{name}?provider=ais"
    size = path.stat().st_size
    count = -(-size // part_size)
    fields = "".join(f"{field}: {value}\r\n" for field, value in _token().items())

    def connect(place: SplitResult) -> socket.socket:
        return socket.create_connection((place.hostname or "", place.port or 80))

    def ask(method: str, target: str, body: bytes) -> tuple[SplitResult, str]:
        """An action, followed from the proxy to the target: where it ended, and the answer's body."""
        place = urlsplit(target)
        head = f"{method} {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\n{fields}Connection: close\r\n"
        with connect(place) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        heads, _, text = answer.partition("\r\n\r\n")
        if " 307 " in heads.partition("\r\n")[0]:
            return ask(method, heads.partition("Location: ")[2].partition("\r\n")[0], body)
        _check(answer.encode())
        return place, text

    def job() -> None:
        address, upload_id = ask("POST", url, json.dumps({"action": "mpt-upload"}).encode())

        def send(numbers: range) -> None:
            with path.open("rb") as source, connect(address) as connection:
                for number in numbers:
                    at = (number - 1) * part_size
                    end = min(at + part_size, size)
                    target = f"{address.path}?{address.query}&uploadId={upload_id}&partNumber={number}"
                    head = f"PUT {target} HTTP/1.1\r\nHost: {address.netloc}\r\n{fields}Content-Length: {end - at}"
                    connection.sendall(f"{head}\r\n\r\n".encode())
                    while at < end:
                        at += os.sendfile(connection.fileno(), source.fileno(), at, end - at)
                    _check(connection.recv(65536))

        with ThreadPoolExecutor(max_workers=concurrency) as pool:
            list(pool.map(send, [range(1 + first, count + 1, concurrency) for first in range(min(concurrency, count))]))
        ask("POST", f"{url}&uploadId={upload_id}", _complete(count))

    return job


def _read(path: Path, at: int, length: int) -> bytes:
    with path.open("rb") as source:
        source.seek(at)
        return source.read(length)


def _check(answer: bytes) -> None:
    status = answer.partition(b"\r\n")[0]
    if not status.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered {status!r}")


def _complete(count: int) -> bytes:
    parts = [{"part-number": number, "etag": ""} for number in range(1, count + 1)]
    return json.dumps({"action": "mpt-complete", "value": parts}).encode()


def _token() -> dict[str, str]:
    token = os.environ.get("AIS_AUTHN_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
