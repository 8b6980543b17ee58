"""Buckets and objects, with the SDK's names, on the mock or on a live cluster."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy
import pytest

import fastmpu
from fastmpu.errors import ClusterError, ConnectFailedError, UsageError


def test_a_bucket_has_properties(bucket: fastmpu.Bucket) -> None:
    props = bucket.head()
    assert props.checksum_type in ("xxhash2", "xxhash", "crc32c", "md5")
    assert "versioning" in props
    assert repr(bucket) == f"<Bucket ais://{bucket.name}>"


def test_create_passes_properties_on(client: fastmpu.Client, bucket: fastmpu.Bucket) -> None:
    """As AIStore names them; an existing bucket keeps its own."""
    other = client.bucket(bucket.name + "-md5").create(props={"checksum": {"type": "md5"}})
    try:
        assert other.head().checksum_type == "md5"
        other.create(exist_ok=True, props={"checksum": {"type": "crc32c"}})
        assert other.head().checksum_type == "md5"
    finally:
        other.delete()


def test_list_goes_through_all_pages(bucket: fastmpu.Bucket) -> None:
    """Page by page while one iterates, by name, by prefix."""
    names = sorted(f"{'ab'[number % 2]}{number:03}" for number in range(25))
    for name in names:
        bucket.object(name).put(name.encode())
    assert [entry.name for entry in bucket.list()] == names
    assert [entry.name for entry in bucket.list(page_size=4)] == names
    assert [entry.name for entry in bucket.list("a", page_size=5)] == [name for name in names if name[0] == "a"]
    assert list(bucket.list("nothing")) == []
    entry = next(iter(bucket.list(props="name,size,checksum,version")))
    assert (entry.size, entry.version) == (4, "1")
    assert entry.checksum


def test_put_and_get(bucket: fastmpu.Bucket) -> None:
    """Any contiguous buffer; the answer is the cluster's 200."""
    obj = bucket.object("o")
    buffers: list[Any] = [b"bytes", bytearray(b"array"), memoryview(b"view"), numpy.arange(10), b""]
    for data in buffers:
        assert obj.put(data).status_code == 200
        assert obj.get_reader().read_all() == memoryview(data).tobytes()
        assert obj.head().size == memoryview(data).nbytes
    assert obj.bucket is bucket
    assert repr(obj) == f"<Object {bucket.uri}/o>"


def test_head_tells_size_and_checksum(bucket: fastmpu.Bucket) -> None:
    obj = bucket.object("o")
    obj.put(b"123456789")
    props = obj.head()
    assert (props.name, props.size, props.version) == (obj.uri, 9, "1")
    assert props.checksum_value == "8cb841db40e6ae83"
    assert props.checksum_type == "xxhash2"
    assert props.atime_ns > 0
    assert props.location.startswith("t[")
    assert props.custom == {}
    obj.put(b"12345678")
    assert obj.head().version == "2"


def test_a_reader_reads_ranges_and_pieces(bucket: fastmpu.Bucket) -> None:
    """Bytes first..last, both included; pieces come as they arrive; each use is a new request."""
    data = random.Random(1).randbytes(3 << 20)
    obj = bucket.object("o")
    obj.put(data)
    reader = obj.get_reader(first=10, last=1_500_000)
    assert reader.read_all() == data[10:1_500_001]
    assert b"".join(reader) == data[10:1_500_001]
    assert obj.get_reader(first=len(data) - 1).read_all() == data[-1:]
    assert obj.get_reader(last=0).read_all() == data[:1]
    pieces = list(obj.get_reader())
    assert len(pieces) > 1
    assert b"".join(pieces) == data
    with pytest.raises(ClusterError) as caught:
        obj.get_reader(first=len(data)).read_all()
    assert caught.value.status == 416


@pytest.mark.parametrize(("first", "last"), [(-1, None), (5, 4), (0, -1)])
def test_a_range_that_is_none(bucket: fastmpu.Bucket, first: int, last: int | None) -> None:
    with pytest.raises(UsageError, match="first <= last"):
        bucket.object("o").get_reader(first=first, last=last)


def test_a_reader_that_is_not_read_to_its_end(bucket: fastmpu.Bucket, client: fastmpu.Client) -> None:
    """Closing the iterator gives its connection up; the next request gets a clean one."""
    obj = bucket.object("o")
    obj.put(b"x" * (4 << 20))
    pieces = iter(obj.get_reader())
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    assert obj.head().size == 4 << 20


def test_delete_a_bucket_with_its_objects(client: fastmpu.Client, bucket: fastmpu.Bucket) -> None:
    bucket.object("a/b").put(b"x")
    bucket.delete()
    with pytest.raises(fastmpu.errors.BucketNotFoundError):
        bucket.object("a/b").head()


def test_threads_share_a_client(bucket: fastmpu.Bucket) -> None:
    """Any number of threads, one client: nobody gets another's bytes."""
    wrong: list[int] = []

    def work(number: int) -> None:
        obj = bucket.object(f"o{number}")
        data = random.Random(number).randbytes(10_000 + number)
        for _ in range(5):
            obj.put(data)
            if obj.get_reader().read_all() != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "endpoint", ["localhost:8080", "ftp://host", "http://", "", "http://host:99999", "http://[::1"]
)
def test_an_endpoint_that_is_no_url(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, with the form that is wanted."""
    monkeypatch.delenv("AIS_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match="endpoint"):
        fastmpu.Client(endpoint)


def test_a_client_sends_nothing_before_it_must() -> None:
    """Names and objects can be made without a cluster."""
    with fastmpu.Client("http://127.0.0.1:1") as client:
        obj = client.bucket("b").object("o")
        mpu, reader = obj.multipart_upload(), obj.get_reader()
        assert "127.0.0.1:1" in repr(client)
        with pytest.raises(ConnectFailedError):
            mpu.create()
        with pytest.raises(ConnectFailedError):
            reader.read_all()


def test_the_cluster_map(client: fastmpu.Client, endpoint: str) -> None:
    """Its members are where requests may go; the endpoint is one of them."""
    found = client.cluster_map()
    assert found.uuid
    assert found.version > 0
    assert found.targets
    assert found.proxies
    assert endpoint.rstrip("/") in {str(origin) for origin in found.members}
