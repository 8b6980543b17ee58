"""Stage times, the verdict on them, and the trace: told by the clocks of what really waited."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import rmtree

import pytest

import fastmpu
from fastmpu import StageTimes, mock
from fastmpu.errors import Cancelled, FastMPUError

KIB = 1 << 10
DATA = bytes(range(256)) * 400


@pytest.mark.parametrize("engine", ["inline", "thread", "process"])
@pytest.mark.parametrize("part_size", ["16KiB", "1MiB"], ids=["parts", "whole"])
def test_a_slow_server_is_seen_as_such(
    cluster: mock.Cluster, obj: fastmpu.Object, tmp_path: Path, engine: str, part_size: str
) -> None:
    """The wait between the last byte and the answer is the server's, in whatever thread or process it passed."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    for op in ("part", "put"):
        cluster.faults.add(f"late_response(60, op={op}, times=always)")
    with fastmpu.Client(cluster.endpoint) as client:
        target = client.bucket("bucket").object("slow")
        receipt = target.upload(path, part_size=part_size, engine=engine, processes=1, max_concurrency=4)
    bodies = max(1, len(receipt.parts))
    assert receipt.stages.server_wait >= 0.06 * bodies
    assert receipt.verdict.startswith("server wait ")
    assert "more concurrency" in receipt.verdict
    assert receipt.stages.verify > 0
    assert (receipt.stages.create > 0) == (receipt.stages.complete > 0) == bool(receipt.parts)
    told = json.loads(receipt.to_json())
    assert set(told["stages"]) == set(vars(receipt.stages))
    assert told["verdict"] == receipt.verdict


def test_a_slow_proxy_is_seen_as_such(cluster: mock.Cluster, obj: fastmpu.Object) -> None:
    """Create, complete and HEAD go through it: what surrounds the data decides, and the verdict says so."""
    for op in ("start", "complete", "head"):
        cluster.faults.add(f"latency(80, op={op}, where=proxy)")
    with fastmpu.Client(cluster.endpoint) as client:
        receipt = client.bucket("bucket").object("slow").upload(DATA, part_size="32KiB")
    assert receipt.stages.create >= 0.08
    assert receipt.stages.complete >= 0.08
    assert receipt.verdict.startswith("create/complete/verify ")


@pytest.mark.parametrize(
    ("times", "wall", "says"),
    [
        (StageTimes(), 1.0, ""),
        (StageTimes(send=3, server_wait=1), 2.0, "send 75%: the network"),
        (StageTimes(read=3, checksum=1), 2.0, "read 75%: the source's storage"),
        (StageTimes(checksum=9, send=1), 2.0, "checksum 90%: hashing decides; engine='process'"),
        (StageTimes(limit=9, send=1), 2.0, "limit 90%: max_bandwidth"),
        (StageTimes(queue=5, send=1), 2.0, "queue 83%: parts wait for a free worker"),
        (StageTimes(redirect=5, send=1), 9.0, "redirect 83%: the proxy decides"),
        (StageTimes(send=9, verify=1.5), 2.0, "create/complete/verify 75% of the time, most of it verify"),
    ],
)
def test_the_verdict_names_what_took_the_most(times: StageTimes, wall: float, says: str) -> None:
    assert times.verdict(wall).startswith(says)


def spans(path: Path) -> list[dict[str, object]]:
    told = json.loads(path.read_text())
    assert set(told) == {"traceEvents", "displayTimeUnit"}
    return [event for event in told["traceEvents"] if event["ph"] == "X"]


def inside(inner: dict[str, object], outer: dict[str, object]) -> bool:
    starts, ends = (float(str(inner["ts"])), float(str(inner["ts"])) + float(str(inner["dur"])))
    begin = float(str(outer["ts"]))
    return begin - 0.01 <= starts <= ends <= begin + float(str(outer["dur"])) + 0.01


@pytest.mark.parametrize("engine", ["inline", "thread"])
def test_a_trace_has_every_request(obj: fastmpu.Object, cluster: mock.Cluster, tmp_path: Path, engine: str) -> None:
    """Each attempt at a part is a span with its sending and waiting below it, in its thread's track; nothing else of
    the upload is in between."""
    cluster.faults.add("status(503, op=part, part=3)")
    path = tmp_path / "trace.json"
    retry = fastmpu.RetryPolicy(base=0.001)
    receipt = obj.upload(DATA, part_size="16KiB", engine=engine, trace=path, retry=retry)
    found = spans(path)
    attempts = [event for event in found if str(event["name"]).startswith("part ")]
    assert sorted(str(event["name"]) for event in attempts) == sorted(
        [*(f"part {part.number}" for part in receipt.parts), "part 3"]
    )
    for attempt in attempts:
        below = [each for each in found if each["tid"] == attempt["tid"] and inside(each, attempt)]
        assert {"send", "server wait"} <= {each["name"] for each in below}
    assert {"create", "complete", "verify"} <= {event["name"] for event in found}
    retried = [event["args"] for event in attempts if event["name"] == "part 3"]
    assert [dict(each)["status"] for each in retried] == [503, 200]  # type: ignore[call-overload]
    assert list(tmp_path.iterdir()) == [path]


def test_one_trace_for_all_of_an_uploader(obj: fastmpu.Object, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with fastmpu.Uploader(obj.bucket.client, trace=str(path)) as uploader:
        for number in range(5):
            uploader.submit(b"data", f"{obj.bucket.uri}/{number}")
    assert sum(str(event["name"]).startswith("ais://bucket/") for event in spans(path)) == 5


def test_a_trace_that_cannot_be_written_is_a_warning(
    obj: fastmpu.Object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The object is there by then."""
    directory = tmp_path / "gone"
    directory.mkdir()
    receipt = obj.upload(
        DATA, part_size="16KiB", trace=directory / "trace.json", progress=lambda _: rmtree(directory, True)
    )
    assert receipt.verified == "head"
    assert [each.getMessage() for each in caplog.records if "trace.json could not be written" in each.getMessage()]


def test_a_failed_upload_leaves_its_trace(obj: fastmpu.Object, cluster: mock.Cluster, tmp_path: Path) -> None:
    """It is what one wants to look at then."""
    cluster.faults.add("status(403, op=part, times=always)")
    path = tmp_path / "trace.json"
    with pytest.raises(FastMPUError) as caught:
        obj.upload(DATA, part_size="16KiB", trace=path)
    assert not isinstance(caught.value, Cancelled)
    assert any(str(event["name"]).startswith("part ") for event in spans(path))
