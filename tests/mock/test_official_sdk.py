"""NVIDIA's own Python SDK, plain and unpatched, works on the mock as on a cluster."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aistore.sdk import Client
from aistore.sdk.errors import AISError, ErrBckAlreadyExists, ErrBckNotFound, ErrObjNotFound
from aistore.sdk.list_object_flag import ListObjectFlag
from aistore.sdk.namespace import Namespace

from fastmpu.mock import Cluster

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # The SDK sends bodies of parts to the proxy and waits for its connection to close: half a second each on AIStore.
    with Cluster(targets=3, closing_delay=0.05) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Any]:
    client = Client(cluster.endpoint, timeout=(3, 20))
    yield client
    client._request_client.session_manager.session.close()


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> Any:
    return client.bucket(request.node.name.replace("[", "-").rstrip("]")[:60]).create(exist_ok=True)


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_buckets(client: Any) -> None:
    bucket = client.bucket("lifecycle").create()
    with pytest.raises(ErrBckAlreadyExists):
        bucket.create()
    bucket.create(exist_ok=True)
    assert "lifecycle" in [found.name for found in client.cluster().list_buckets()]
    assert '"xxhash2"' in bucket.head()["Ais-Bucket-Props"]
    bucket.delete()
    bucket.delete(missing_ok=True)
    with pytest.raises(ErrBckNotFound):
        bucket.delete()
    with pytest.raises(AISError):
        bucket.head()


def test_namespaces(client: Any) -> None:
    own = client.bucket("spaced", namespace=Namespace(name="ns1")).create()
    own.object("o").get_writer().put_content(b"in ns1")
    assert own.object("o").get_reader().read_all() == b"in ns1"
    with pytest.raises(ErrBckNotFound):
        client.bucket("spaced").object("o").get_writer().put_content(b"in none")


def test_put_and_read_content(bucket: Any) -> None:
    obj = bucket.object("a/b c+d%.bin")
    assert obj.get_writer().put_content(b"hello, world").status_code == 200
    assert obj.get_reader().read_all() == b"hello, world"
    assert obj.get_reader(byte_range="bytes=7-11").read_all() == b"world"
    assert obj.get_reader(byte_range="bytes=-5").read_all() == b"world"
    assert b"".join(obj.get_reader(chunk_size=5)) == b"hello, world"
    assert obj.props.size == 12
    assert obj.head("checksum").checksum_type == "xxhash2"


def test_put_file(bucket: Any, tmp_path: Path) -> None:
    data = random_bytes(3 * MIB + 5)
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    bucket.object("file.bin").get_writer().put_file(path)
    assert bucket.object("file.bin").get_reader().read_all() == data
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.txt").write_bytes(b"x")
    bucket.put_files(str(tmp_path), recursive=True, prepend="many/")
    assert sorted(entry.name for entry in bucket.list_all_objects(prefix="many/")) == [
        "many/file.bin",
        "many/more/x.txt",
    ]


def test_delete_and_missing(bucket: Any) -> None:
    obj = bucket.object("gone")
    obj.get_writer().put_content(b"x")
    assert obj.delete().status_code == 200
    with pytest.raises(ErrObjNotFound):
        obj.delete()
    with pytest.raises(ErrObjNotFound):
        obj.get_reader().read_all()
    with pytest.raises(AISError):
        obj.head()


def test_custom_metadata(bucket: Any) -> None:
    obj = bucket.object("tagged")
    obj.get_writer().put_content(b"x")
    obj.get_writer().set_custom_props({"color": "blue", "shape": "round"})
    assert obj.props.custom_metadata == {"color": "blue", "shape": "round"}
    obj.get_writer().set_custom_props({"size": "small"}, replace_existing=True)
    assert obj.props.custom_metadata == {"size": "small"}


def test_lists(bucket: Any) -> None:
    names = [f"shard-{number:03d}.tar" for number in range(25)]
    for number, name in enumerate(names):
        bucket.object(name).get_writer().put_content(bytes(number))
    page = bucket.list_objects(page_size=10)
    assert [entry.name for entry in page.entries] == names[:10]
    second = bucket.list_objects(page_size=10, continuation_token=page.continuation_token)
    assert [entry.name for entry in second.entries] == names[10:20]
    assert [entry.name for entry in bucket.list_all_objects(page_size=10)] == names
    assert [entry.name for entry in bucket.list_objects_iter(page_size=7)] == names
    assert [entry.name for entry in bucket.list_all_objects(prefix="shard-01")] == names[10:20]
    assert [entry.name for entry in bucket.list_objects(start_after=names[22]).entries] == names[23:]
    full = bucket.list_objects(props="name,size,checksum,version,copies,location").entries[7]
    assert (full.size, full.version, full.copies, len(full.checksum)) == (7, "1", 1, 16)
    bare = bucket.list_objects(flags=[ListObjectFlag.NAME_ONLY]).entries[7]
    assert (bare.name, bare.size) == (names[7], 0)


def test_notebook_multipart_in_turn(bucket: Any) -> None:
    parts = [random_bytes(5 * MIB), random_bytes(MIB), b"tail"]
    obj = bucket.object("in-turn.bin")
    upload = obj.multipart_upload().create()
    for number, part in enumerate(parts, 1):
        assert upload.add_part(number).put_content(part).status_code == 200
    assert upload.complete().status_code == 200
    assert obj.get_reader().read_all() == b"".join(parts)
    assert obj.props.checksum_type == "xxhash2"


def test_notebook_multipart_in_parallel(bucket: Any) -> None:
    parts = {number: random_bytes(MIB + number) for number in range(1, 7)}
    obj = bucket.object("parallel.bin")
    upload = obj.multipart_upload().create()
    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(lambda item: upload.add_part(item[0]).put_content(item[1]), parts.items()))
    assert upload.complete().status_code == 200
    assert obj.get_reader().read_all() == b"".join(parts.values())
    assert (
        obj.get_reader(byte_range=f"bytes={MIB - 2}-{MIB + 8}").read_all() == (parts[1] + parts[2])[MIB - 2 : MIB + 9]
    )


def test_notebook_abort(bucket: Any) -> None:
    obj = bucket.object("aborted.bin")
    upload = obj.multipart_upload().create()
    upload.add_part(1).put_content(b"never seen")
    assert upload.abort().status_code == 200
    with pytest.raises(AISError):
        upload.complete()
    with pytest.raises(ErrObjNotFound):
        upload.abort()
    assert not list(bucket.list_all_objects())


@pytest.mark.parametrize("number", [0, -1, "2"])
def test_part_numbers_the_sdk_refuses(bucket: Any, number: Any) -> None:
    with pytest.raises(ValueError, match="positive integer"):
        bucket.object("x").multipart_upload().create().add_part(number)


def test_multipart_errors(bucket: Any) -> None:
    upload = bucket.object("errors").multipart_upload().create()
    with pytest.raises(AISError, match="no chunks"):
        upload.complete()
    with pytest.raises(AISError, match="invalid size"):
        upload.add_part(1).put_content(b"")
    upload.parts.clear()
    upload.add_part(1).put_content(b"one")
    upload.parts.append(2)
    with pytest.raises(AISError, match="requested 2 parts, have 1"):
        upload.complete()
    upload.parts.remove(2)
    assert upload.complete().status_code == 200
    assert bucket.object("errors").get_reader().read_all() == b"one"


def test_overwrite_counts_versions(bucket: Any) -> None:
    obj = bucket.object("versions")
    for number in (1, 2, 3):
        obj.get_writer().put_content(bytes(number))
        assert obj.props.obj_version == str(number)


def test_cluster_info(client: Any, cluster: Cluster) -> None:
    info = client.cluster().get_info()
    assert sorted(info.tmap) == sorted(target.id for target in cluster.targets)
    assert client.cluster().is_ready()
    assert client.cluster().get_primary_url() == cluster.endpoint


def test_what_the_mock_does_not_know_it_says(bucket: Any) -> None:
    with pytest.raises(AISError, match="mock of AIStore"):
        bucket.object("x").get_writer().append_content(b"x")
