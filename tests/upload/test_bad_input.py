"""Bad input, row by row: a typed error that names the value and the remedy, no request, nothing left behind."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from interposer import Interposer
from stranger import WEB_PAGE, stranger

import fastmpu
from fastmpu.errors import (
    ConnectFailedError,
    InvalidNameError,
    NotAIStoreError,
    PlanError,
    SourceError,
    UsageError,
)

DATA = bytes(20_000)
Row = tuple[dict[str, Any], type[Exception], str, str]

OPTIONS: list[Row] = [
    ({"part_size": 0}, PlanError, "part_size=0", "smallest allowed is 3"),
    ({"part_size": -1}, PlanError, "part_size=-1", "smallest allowed is 3"),
    ({"part_size": 2}, PlanError, "part_size=2", "smallest allowed is 3"),  # 20,000 bytes in 9,999 parts
    ({"part_size": 6 << 30}, PlanError, str(6 << 30), "at most"),
    ({"part_size": "0"}, PlanError, "part_size=0", "smallest allowed"),
    ({"part_size": "a lot"}, UsageError, "'a lot'", "'64MiB'"),
    ({"part_size": "-5MiB"}, UsageError, "'-5MiB'", "'64MiB'"),
    ({"part_size": ""}, UsageError, "''", "'64MiB'"),
    ({"part_size": 1.5}, UsageError, "1.5", "'64MiB'"),
    ({"part_size": True}, UsageError, "True", "'64MiB'"),
    ({"part_size": b"5"}, UsageError, "b'5'", "'64MiB'"),
    ({"part_size": []}, UsageError, "[]", "'64MiB'"),
    ({"multipart_threshold": -1}, PlanError, "multipart_threshold=-1", "0 to"),
    ({"multipart_threshold": "10 apples"}, UsageError, "'10 apples'", "'64MiB'"),
    ({"multipart_threshold": 6 << 30}, PlanError, str(6 << 30), "0 to"),
    ({"max_concurrency": 0}, UsageError, "max_concurrency=0", "1 to 1024"),
    ({"max_concurrency": -3}, UsageError, "-3", "1 to 1024"),
    ({"max_concurrency": 10_000}, UsageError, "10000", "1 to 1024"),
    ({"max_concurrency": "4"}, UsageError, "'4'", "1 to 1024"),
    ({"max_concurrency": True}, UsageError, "True", "1 to 1024"),
    ({"engine": "fork"}, UsageError, "'fork'", "'thread'"),
    ({"engine": 3}, UsageError, "3", "'thread'"),
    ({"checksum": "sha1"}, UsageError, "'sha1'", "'crc32c'"),
    ({"verify": "yes"}, UsageError, "'yes'", "'head'"),
    ({"verify": True}, UsageError, "True", "'head'"),
    ({"verify": "read", "checksum": "none"}, UsageError, "'read'", "'auto'"),
    ({"read": "fast"}, UsageError, "'fast'", "'pread'"),
    ({"mode": "append"}, UsageError, "'append'", "'create'"),
    ({"on_error": "ignore"}, UsageError, "'ignore'", "'abort'"),
    ({"retry": 3}, UsageError, "retry=3", "RetryPolicy"),
    ({"progress": 3}, UsageError, "progress=3", "function"),
    ({"partsize": 5}, UsageError, "'partsize'", "part_size"),
    ({"chunk_size": 5}, UsageError, "'chunk_size'", "part_size"),
]


@pytest.mark.parametrize(("options", "kind", "value", "remedy"), OPTIONS, ids=lambda value: str(value)[:40])
def test_options_that_make_no_sense(
    obj: fastmpu.Object,
    tap: Interposer,
    nothing_left: None,
    options: dict[str, Any],
    kind: type[Exception],
    value: str,
    remedy: str,
) -> None:
    """A ValueError before the first request."""
    with tap.silence(), pytest.raises(kind) as caught:
        obj.upload(DATA, **options)
    assert isinstance(caught.value, ValueError)
    assert value in str(caught.value)
    assert remedy in str(caught.value)


def closed_view() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


SOURCES: list[tuple[Callable[[], Any], str]] = [
    (lambda: numpy.asfortranarray(numpy.ones((4, 5))), "ascontiguousarray"),
    (lambda: numpy.arange(10)[::2], "ascontiguousarray"),
    (lambda: memoryview(b"abcdef")[::2], "ascontiguousarray"),
    (lambda: numpy.array([object()]), "Python objects"),
    (closed_view, "no buffer"),
    (lambda: 42, "pass a path"),
    (lambda: None, "pass a path"),
    (lambda: [1, 2, 3], "pass a path"),
    (lambda: iter([b"x"]), "stored first"),
    (lambda: io.BytesIO(b"x"), ".getbuffer()"),
    (lambda: open("/dev/null", "rb"), "pass its path"),  # noqa: SIM115 - closed by the test
]


@pytest.mark.parametrize(("make", "remedy"), SOURCES, ids=lambda value: value if isinstance(value, str) else "")
def test_things_that_are_no_source(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, make: Callable[[], Any], remedy: str
) -> None:
    """A ValueError that says what can be passed instead."""
    source = make()
    with tap.silence(), pytest.raises(UsageError) as caught:
        obj.upload(source)
    assert remedy in str(caught.value)
    if hasattr(source, "close"):
        source.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("no-scheme", "ais://bucket/name"),
        ("ais://", "ais://bucket/name"),
        ("hdfs://b/o", "unknown provider 'hdfs'"),
        ("ais://bad bucket/o", "'bad bucket'"),
        ("ais://b/a/../c", "'..'"),
        ("ais://b//lead", "empty path segment"),
        ("ais://b/a\nb", "control character"),
        ("ais://b/a/", "no name of its own"),
        ("ais://b", "no name of its own"),
    ],
)
def test_uris_that_lead_nowhere(
    tapped: fastmpu.Client, tap: Interposer, nothing_left: None, uri: str, says: str
) -> None:
    with tap.silence(), pytest.raises(InvalidNameError) as caught:
        fastmpu.upload(DATA, uri, client=tapped)
    assert says in str(caught.value)


@pytest.mark.parametrize("target", [None, 3, b"ais://b/o", ("b", "o")])
def test_a_target_that_is_none(tapped: fastmpu.Client, tap: Interposer, target: Any) -> None:
    with tap.silence(), pytest.raises(UsageError, match="ais://bucket/name"):
        fastmpu.upload(DATA, target, client=tapped)


def test_small_parts_of_cloud_buckets(tapped: fastmpu.Client, tap: Interposer) -> None:
    """S3 and its likes take no parts below 5 MiB but the last: known before the first byte."""
    with tap.silence(), pytest.raises(PlanError, match=str(5 << 20)):
        fastmpu.upload(bytes(11 << 20), "s3://b/o", client=tapped, part_size="4MiB")


def test_a_file_name_that_no_object_can_have(tapped: fastmpu.Client, tap: Interposer, tmp_path: Path) -> None:
    """The file's own name is checked as any other."""
    path = tmp_path / "line\nbreak"
    path.write_bytes(b"x")
    with tap.silence(), pytest.raises(InvalidNameError, match="control character"):
        fastmpu.upload(path, "ais://b/", client=tapped)
    raw = tmp_path / os.fsdecode(b"\xff\xfe")
    raw.write_bytes(b"x")
    with tap.silence(), pytest.raises(InvalidNameError, match="surrogate"):
        fastmpu.upload(raw, "ais://b/", client=tapped)


def test_no_endpoint_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIS_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match="AIS_ENDPOINT"):
        fastmpu.upload(DATA, "ais://b/o")


@pytest.mark.parametrize("part_size", [1000, 1_000_000])
def test_an_endpoint_that_is_not_there_or_no_aistore(part_size: int) -> None:
    """The first answer, or none, decides; a PUT of data is never tried."""
    with pytest.raises(ConnectFailedError, match=r"127\.0\.0\.1:1"):
        fastmpu.upload(DATA, "ais://b/o", endpoint="http://127.0.0.1:1", part_size=part_size)
    with stranger(200, WEB_PAGE, Content_Type="text/html") as server:
        with pytest.raises(NotAIStoreError, match=server.url):
            fastmpu.upload(DATA, "ais://b/o", endpoint=server.url, part_size=part_size)
        assert all(request.startswith("GET ") for request in server.requests)


def test_a_missing_file_is_said_before_the_network(tap: Interposer) -> None:
    """The source is opened first: a typo costs no connection."""
    with (
        fastmpu.Client("http://127.0.0.1:1", transport=tap) as client,
        tap.silence(),
        pytest.raises(SourceError, match="No such file"),
    ):
        fastmpu.upload("/no/such/file", "ais://b/o", client=client)
