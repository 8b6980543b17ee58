"""Calls of NVIDIA's Python SDK about the cluster, buckets, lists and archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from aistore.sdk.archive_config import ArchiveConfig
from aistore.sdk.errors import AISError, ErrBckAlreadyExists, ErrBckNotFound, InvalidBckProvider
from aistore.sdk.list_object_flag import ListObjectFlag
from aistore.sdk.namespace import Namespace
from aistore.sdk.provider import Provider
from sdk_kit import DATA, call, names, put

# -- the cluster


@call
def cluster_info(client: Any, bucket: Any, tmp_path: Path) -> None:
    info = client.cluster().get_info()
    assert len(info.tmap) == 3
    assert info.version


@call
def cluster_is_ready(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert client.cluster().is_ready() is True


@call
def cluster_primary_url(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert client.cluster().get_primary_url().startswith("http://")


@call
def cluster_uuid(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert len(client.cluster().get_uuid()) == 9


@call
def cluster_list_buckets(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert bucket.name in names(client.cluster().list_buckets())


@call
def cluster_list_buckets_of_a_cloud(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="list"):  # AIStore says null (protocol 10), which the SDK's model refuses
        client.cluster().list_buckets(provider=Provider.AMAZON)


# -- buckets


@call
def bucket_create_twice(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrBckAlreadyExists):
        bucket.create()


@call
def bucket_create_exist_ok(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert bucket.create(exist_ok=True).name == bucket.name


@call
def bucket_create_bad_name(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError, match="may only contain letters"):
        client.bucket("no spaces").create()


@call
def bucket_create_of_a_cloud(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidBckProvider):
        client.bucket("cloudy", provider=Provider.AMAZON).create()


@call
def bucket_create_in_a_namespace(client: Any, bucket: Any, tmp_path: Path) -> None:
    own = client.bucket(bucket.name, namespace=Namespace(name="own")).create()
    put(own, "o", b"own")
    assert not list(bucket.list_all_objects())
    own.delete()


@call
def bucket_delete(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o")
    bucket.delete()
    with pytest.raises(ErrBckNotFound):
        bucket.list_objects()


@call
def bucket_delete_missing(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrBckNotFound):
        client.bucket("never").delete()


@call
def bucket_delete_missing_ok(client: Any, bucket: Any, tmp_path: Path) -> None:
    client.bucket("never").delete(missing_ok=True)


@call
def bucket_head(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert '"versioning"' in bucket.head()["Ais-Bucket-Props"]


@call
def bucket_head_missing(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError):
        client.bucket("never").head()


@call
def bucket_names_itself(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert bucket.get_path().endswith(bucket.name + "/")
    assert bucket.as_model().provider == "ais"


# -- lists


def five(bucket: Any) -> list[str]:
    made = [f"d/{letter}" for letter in "abc"] + ["e", "f"]
    for size, name in enumerate(made):
        put(bucket, name, bytes(size))
    return made


@call
def list_objects(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_objects().entries) == made


@call
def list_of_an_empty_bucket(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert bucket.list_objects().entries in ([], None)


@call
def list_of_a_missing_bucket(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrBckNotFound):
        client.bucket("never").list_objects()


@call
def list_all_objects(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_all_objects()) == made


@call
def list_all_in_pages(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_all_objects(page_size=2)) == made


@call
def list_by_token(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    first = bucket.list_objects(page_size=3)
    assert names(bucket.list_objects(continuation_token=first.continuation_token, uuid=first.uuid).entries) == made[3:]


@call
def list_start_after(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_all_objects(start_after=made[1])) == made[2:]


@call
def list_prefix(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_all_objects(prefix="d/")) == made[:3]


@call
def list_prefix_of_nothing(client: Any, bucket: Any, tmp_path: Path) -> None:
    five(bucket)
    assert not bucket.list_all_objects(prefix="zzz")


@call
def list_iterator(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert names(bucket.list_objects_iter(page_size=2)) == made


@call
def list_objects_as_objects(client: Any, bucket: Any, tmp_path: Path) -> None:
    made = five(bucket)
    assert [obj.name for obj in bucket.list_all_objects_iter(prefix="d/")] == made[:3]


@call
def list_urls(client: Any, bucket: Any, tmp_path: Path) -> None:
    five(bucket)
    assert all("/v1/objects/" in url for url in bucket.list_urls(prefix="d/"))


@call
def list_props_size_and_version(client: Any, bucket: Any, tmp_path: Path) -> None:
    five(bucket)
    entry = bucket.list_objects(props="name,size,version").entries[2]
    assert (entry.size, entry.version, entry.checksum) == (2, "1", "")


@call
def list_props_checksum(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "o")
    assert bucket.list_objects(props="checksum").entries[0].checksum == obj.head("checksum").checksum_value


@call
def list_props_atime_location_copies(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o")
    entry = bucket.list_objects(props="atime,location,copies").entries[0]
    assert entry.atime
    assert entry.location.startswith("t[")
    assert entry.copies == 1


@call
def list_flag_name_only(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o")
    assert bucket.list_objects(flags=[ListObjectFlag.NAME_ONLY]).entries[0].size == 0


@call
def list_flag_name_and_size(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o")
    assert bucket.list_objects(flags=[ListObjectFlag.NAME_SIZE]).entries[0].size == len(DATA)


@call
def list_without_unfinished_uploads(client: Any, bucket: Any, tmp_path: Path) -> None:
    bucket.object("o").multipart_upload().create().add_part(1).put_content(DATA)
    assert not bucket.list_all_objects()


# -- archives


def shard() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in (("one.txt", b"1"), ("dir/two.txt", b"22")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@call
def archive_list_with_sizes(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "s.tar", shard())
    found = bucket.list_archive("s.tar", props="name,size")
    assert {entry.name: entry.size for entry in found} == {"s.tar/one.txt": 1, "s.tar/dir/two.txt": 2}


@call
def archive_list_with_itself(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "s.tar", shard())
    assert "s.tar" in names(bucket.list_archive("s.tar", include_archive_obj=True))


@call
def archive_read_one_file(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "s.tar", shard())
    assert obj.get_reader(archive_config=ArchiveConfig(archpath="dir/two.txt")).read_all() == b"22"


@call
def archive_read_missing_file(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "s.tar", shard())
    with pytest.raises(AISError, match="not found in archive"):
        obj.get_reader(archive_config=ArchiveConfig(archpath="three.txt")).read_all()


@call
def archive_zip(client: Any, bucket: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("in.zip.txt", b"zipped")
    obj = put(bucket, "s.zip", packed.getvalue())
    assert names(bucket.list_archive("s.zip")) == ["s.zip/in.zip.txt"]
    assert obj.get_reader(archive_config=ArchiveConfig(archpath="in.zip.txt")).read_all() == b"zipped"
