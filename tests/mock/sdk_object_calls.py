"""Calls of NVIDIA's Python SDK about objects, ranges, many files and multipart uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound
from sdk_kit import DATA, call, names, put

# -- objects


@call
def object_put_content(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert bucket.object("o").get_writer().put_content(DATA).headers["Ais-Version"] == "1"


@call
def object_put_nothing(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "empty", b"").get_reader().read_all() == b""


@call
def object_put_large(client: Any, bucket: Any, tmp_path: Path) -> None:
    data = DATA * 100
    assert put(bucket, "large", data).get_reader().read_all() == data


@call
def object_put_file(client: Any, bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    bucket.object("o").get_writer().put_file(tmp_path / "f")
    assert bucket.object("o").get_reader().read_all() == DATA


@call
def object_put_missing_file(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        bucket.object("o").get_writer().put_file(tmp_path / "none")


@call
def object_put_to_missing_bucket(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrBckNotFound):
        put(client.bucket("never"), "o")


@call
def object_put_bad_name(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError, match="invalid object name"):
        put(bucket, "a/")


@call
def object_put_strange_name(client: Any, bucket: Any, tmp_path: Path) -> None:
    for name in ("ä/漢字", "a b+c%d", "x?y#z", "a&b=c;d"):
        assert put(bucket, name, name.encode()).get_reader().read_all() == name.encode()


@call
def object_overwrite(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o")
    assert put(bucket, "o", b"new").head("version").obj_version == "2"


@call
def object_read_all(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader().read_all() == DATA


@call
def object_read_in_chunks(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert [len(chunk) for chunk in put(bucket, "o").get_reader(chunk_size=4000)] == [4000, 4000, 2000]


@call
def object_read_raw(client: Any, bucket: Any, tmp_path: Path) -> None:
    raw = put(bucket, "o").get_reader().raw()
    assert raw.read() == DATA
    raw.close()


@call
def object_read_as_file(client: Any, bucket: Any, tmp_path: Path) -> None:
    with put(bucket, "o").get_reader().as_file() as file:
        assert file.read(10) + file.read() == DATA


@call
def object_read_direct(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader(direct=True).read_all() == DATA


@call
def object_read_into_a_writer(client: Any, bucket: Any, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        put(bucket, "o").get_reader(writer=out).read_all()
    assert (tmp_path / "out").read_bytes() == DATA


@call
def object_reader_attributes(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader().attributes.checksum_type == "xxhash2"


@call
def object_reader_head(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader().head().size == len(DATA)


@call
def object_range(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader(byte_range="bytes=10-19").read_all() == DATA[10:20]


@call
def object_range_open(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader(byte_range="bytes=9990-").read_all() == DATA[9990:]


@call
def object_range_of_the_end(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_reader(byte_range="bytes=-7").read_all() == DATA[-7:]


@call
def object_range_beyond(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError, match="not satisfiable"):
        put(bucket, "o").get_reader(byte_range="bytes=10000-").read_all()


@call
def object_read_missing(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrObjNotFound):
        bucket.object("never").get_reader().read_all()


@call
def object_head(client: Any, bucket: Any, tmp_path: Path) -> None:
    attributes = put(bucket, "o").head()  # asks for name and size alone
    assert (attributes.size, attributes.obj_version, attributes.checksum_type) == (len(DATA), "", "")


@call
def object_head_props(client: Any, bucket: Any, tmp_path: Path) -> None:
    attributes = put(bucket, "o").head("checksum,version")
    assert (len(attributes.checksum_value), attributes.obj_version) == (16, "1")


@call
def object_head_unknown_prop(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError):
        put(bucket, "o").head("colour")


@call
def object_head_missing(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError):
        bucket.object("never").head()


@call
def object_props(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "o")
    assert obj.props.size == len(DATA)
    assert obj.props_cached is not None
    assert obj.props.present


@call
def object_custom_props(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "o")
    obj.get_writer().set_custom_props({"a": "1"})
    obj.get_writer().set_custom_props({"b": "2"})
    assert obj.head("custom").custom_metadata == {"a": "1", "b": "2"}


@call
def object_custom_props_replaced(client: Any, bucket: Any, tmp_path: Path) -> None:
    obj = put(bucket, "o")
    obj.get_writer().set_custom_props({"a": "1"})
    obj.get_writer().set_custom_props({"b": "2"}, replace_existing=True)
    assert obj.head("custom").custom_metadata == {"b": "2"}


@call
def object_delete(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").delete().status_code == 200
    assert not bucket.list_all_objects()


@call
def object_delete_missing(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrObjNotFound):
        bucket.object("never").delete()


@call
def object_from_url(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "from/url")
    assert client.get_object_from_url(f"ais://{bucket.name}/from/url").get_reader().read_all() == DATA


@call
def object_url(client: Any, bucket: Any, tmp_path: Path) -> None:
    assert put(bucket, "o").get_url().endswith(f"/v1/objects/{bucket.name}/o?provider=ais")


# -- many files


def tree(directory: Path) -> None:
    (directory / "sub").mkdir()
    for name in ("a.txt", "b.bin", "sub/c.txt"):
        (directory / name).write_bytes(name.encode())


@call
def put_files(client: Any, bucket: Any, tmp_path: Path) -> None:
    tree(tmp_path)
    bucket.put_files(str(tmp_path), verbose=False)
    assert names(bucket.list_all_objects()) == ["a.txt", "b.bin"]


@call
def put_files_recursive(client: Any, bucket: Any, tmp_path: Path) -> None:
    tree(tmp_path)
    bucket.put_files(str(tmp_path), recursive=True, verbose=False)
    assert names(bucket.list_all_objects()) == ["a.txt", "b.bin", "sub/c.txt"]


@call
def put_files_by_pattern(client: Any, bucket: Any, tmp_path: Path) -> None:
    tree(tmp_path)
    bucket.put_files(str(tmp_path), pattern="*.txt", recursive=True, basename=True, verbose=False)
    assert names(bucket.list_all_objects()) == ["a.txt", "c.txt"]


@call
def put_files_with_prefixes(client: Any, bucket: Any, tmp_path: Path) -> None:
    tree(tmp_path)
    bucket.put_files(str(tmp_path), prefix_filter="b", prepend="many/", verbose=False)
    assert names(bucket.list_all_objects()) == ["many/b.bin"]


@call
def put_files_dry(client: Any, bucket: Any, tmp_path: Path) -> None:
    tree(tmp_path)
    bucket.put_files(str(tmp_path), dry_run=True, verbose=False)
    assert not bucket.list_all_objects()


# -- multipart uploads


@call
def multipart_one_part(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(1).put_content(DATA)
    assert upload.complete().status_code == 200
    assert bucket.object("o").head("checksum").checksum_type == "xxhash2"


@call
def multipart_out_of_order(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    for number in (2, 3, 1):
        upload.add_part(number).put_content(DATA[:number])
    upload.complete()
    assert bucket.object("o").get_reader().read_all() == DATA[:1] + DATA[:2] + DATA[:3]
    assert bucket.object("o").head("checksum").checksum_type == "crc32c"


@call
def multipart_from_files(client: Any, bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(DATA)
    upload = bucket.object("o").multipart_upload().create()
    for number in (1, 2):
        upload.add_part(number).put_file(tmp_path / "part")
    upload.complete()
    assert bucket.object("o").get_reader().read_all() == DATA * 2


@call
def multipart_with_a_gap(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(2).put_content(DATA)
    with pytest.raises(AISError, match="chunk at"):
        upload.complete()


@call
def multipart_without_parts(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(AISError, match="no chunks"):
        bucket.object("o").multipart_upload().create().complete()


@call
def multipart_abort(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(1).put_content(DATA)
    assert upload.abort().status_code == 200


@call
def multipart_abort_twice(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.abort()
    with pytest.raises(ErrObjNotFound):
        upload.abort()


@call
def multipart_complete_twice(client: Any, bucket: Any, tmp_path: Path) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(1).put_content(DATA)
    upload.complete()
    with pytest.raises(AISError, match="does not exist"):
        upload.complete()
    assert bucket.object("o").get_reader().read_all() == DATA


@call
def multipart_in_a_missing_bucket(client: Any, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ErrBckNotFound):
        client.bucket("never").object("o").multipart_upload().create()


@call
def multipart_over_an_object(client: Any, bucket: Any, tmp_path: Path) -> None:
    put(bucket, "o", b"old")
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(1).put_content(DATA)
    assert bucket.object("o").get_reader().read_all() == b"old"
    upload.complete()
    assert bucket.object("o").head("version").obj_version == "2"
