"""A complete that reached nobody was not sent, so it is sent again; one that may have been sent never is (H5)."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import httpx
import pytest
from interposer import Forward, Interposer, refuse, unreachable

import fastmpu
from fastmpu import mock
from fastmpu.errors import Cancelled, ConnectFailedError, UploadError

DATA = random.Random(33).randbytes(60_000)
PATIENT = fastmpu.RetryPolicy(attempts=20, base=0.05, cap=0.2)
SOON = fastmpu.RetryPolicy(attempts=3, base=0.0)


@pytest.fixture
def obj(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Object]:
    with fastmpu.Client(cluster.endpoint, transport=tap) as client:
        yield client.bucket("bucket").create().object("dir/name.bin")


def send(obj: fastmpu.Object, retry: fastmpu.RetryPolicy, **options: object) -> fastmpu.Receipt:
    """Six parts."""
    return obj.upload(DATA, part_size=10_000, retry=retry, **options)


@pytest.mark.parametrize("engine", ["inline", "thread"])
def test_a_proxy_that_is_down_at_complete(
    cluster: mock.Cluster, obj: fastmpu.Object, tap: Interposer, engine: str
) -> None:
    """For a moment it refuses all connections, and has ended those it had: one complete arrives, when it is back."""

    def stop(event: fastmpu.ProgressEvent) -> None:
        if event.stage == "complete" and not tap.of("complete"):
            cluster.faults.add("proxy_down", ms=250)

    receipt = send(obj, PATIENT, engine=engine, progress=stop)
    assert cluster.bucket("bucket").read("dir/name.bin") == DATA
    assert (receipt.restarts, receipt.probes, receipt.verified) == (0, 0, "head")
    assert len([wire for wire in tap.of("complete") if not wire.direct]) > 1
    assert len(cluster.truth.attempts(op="complete", where="target")) == 1
    assert cluster.truth.violations() == []


@pytest.mark.parametrize("direct", [False, True], ids=["proxy", "target"])
def test_either_of_both_ways(cluster: mock.Cluster, obj: fastmpu.Object, tap: Interposer, direct: bool) -> None:
    tap.on("complete", unreachable, direct=direct, times=2)
    assert send(obj, SOON).restarts == 0
    assert cluster.bucket("bucket").read("dir/name.bin") == DATA
    assert tap.count("abort") == 0


def test_nobody_is_ever_there(cluster: mock.Cluster, obj: fastmpu.Object, tap: Interposer) -> None:
    """As often as the policy says; then it is an error, and as nothing was sent, the upload is aborted."""
    tap.on("complete", unreachable)
    with pytest.raises(UploadError) as caught:
        send(obj, SOON)
    assert isinstance(caught.value.__cause__, ConnectFailedError)
    assert (len(tap.of("complete")), tap.count("abort")) == (3, 1)
    assert cluster.stored_bytes == 0


def test_a_refusal_is_final(obj: fastmpu.Object, tap: Interposer) -> None:
    """Even one that would pass: AIStore has no good word on what a failed complete leaves behind (H6)."""
    tap.on("complete", refuse(500), direct=True)
    with pytest.raises(UploadError):
        send(obj, SOON)
    assert tap.count("complete") == 1


def test_cancelled_while_nobody_is_there(cluster: mock.Cluster, obj: fastmpu.Object, tap: Interposer) -> None:
    cancel = threading.Event()

    def nobody(request: httpx.Request, forward: Forward) -> httpx.Response:
        cancel.set()
        return unreachable(request, forward)

    tap.on("complete", nobody)
    with pytest.raises(Cancelled):
        send(obj, fastmpu.RetryPolicy(attempts=5, base=600.0, cap=600.0), cancel=cancel)
    assert (len(tap.of("complete")), tap.count("abort")) == (1, 1)
    assert cluster.stored_bytes == 0
