"""AIStore's own SDK as it is used in AIStore's notebook: bytes in parts, a pool of three threads, complete.

Its retries are its own, with the waits between them shortened by its public `RetryConfig`, and the read timeout by its
`timeout`: both by about the factor by which the faults' times are shortened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from aistore.sdk import Client
from aistore.sdk.retry_config import RetryConfig
from tenacity import wait_random_exponential

from bench.fault_cases import SHORT, Case
from bench.judge import BUCKET, Send
from fastmpu import mock


@contextmanager
def by_sdk(cluster: mock.Cluster, case: Case) -> Iterator[Send]:
    """The same object in the same parts; whole ones by its plain writer. Raises what the SDK raises."""
    retries = RetryConfig.default()
    retries.http_retry = retries.http_retry.new(backoff_factor=0.03)
    retries.network_retry = retries.network_retry.copy(wait=wait_random_exponential(multiplier=0.01, max=0.3))
    client = Client(cluster.endpoint, timeout=(SHORT["connect"], SHORT["response"]), retry_config=retries)

    def send(name: str, source: bytes | Path, cancel: threading.Event) -> None:
        obj = client.bucket(BUCKET).object(name)
        data = source if isinstance(source, bytes) else source.read_bytes()
        if not case.multipart:
            obj.get_writer().put_content(data)
            return
        upload = obj.multipart_upload().create()

        def put(number: int) -> None:
            at = (number - 1) * case.part_size
            upload.add_part(number).put_content(data[at : at + case.part_size])

        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(put, range(1, case.parts + 1)))
        upload.complete()

    try:
        yield send
    finally:
        client._request_client.session_manager.session.close()
