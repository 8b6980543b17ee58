"""Objects and their names, beyond the recorded cases (protocol 1.6, 4)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec.msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import Call, Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.answers import quoted
from fastmpu.mock.msgpack import pack


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    with Cluster(targets=2) as cluster:
        yield Talk(cluster)


def test_an_unknown_checksum_type_ends_the_connection(talk: Talk) -> None:
    to, marker = talk.owner("dropped")
    with Call(to) as call:
        headers = {"ais-checksum-type": "crc7", "ais-checksum-value": "00"}
        call.head("PUT", talk.path("dropped", marker), 0, headers)
        assert call.ended()


def test_the_same_again_is_drained_and_nothing_else(talk: Talk) -> None:
    first = talk.put("same", b"123456789")
    value = first.headers["ais-checksum-value"]
    again = {"ais-checksum-type": "xxhash2", "ais-checksum-value": value}
    reply = talk.send("PUT", "same", bytes(1_000_000), headers=again)
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("ais-") or name == "connection"]
    assert talk.get("same").body == b"123456789"


def test_an_etag_and_a_time_on_request(talk: Talk) -> None:
    value = talk.put("tagged", b"x").headers["ais-checksum-value"]
    headers = talk.head("tagged", "etag,last-modified,location,copies,custom,ec,name").headers
    assert headers["etag"].startswith(f'"v1-{value}-')
    assert headers["last-modified"].endswith("GMT")
    assert headers["ais-mirror-copies"] == "1"
    assert "ais-name" not in headers


def test_a_segment_longer_than_a_file_name(talk: Talk) -> None:
    name = "long/" + "n" * 300
    assert talk.put(name, b"x").status == 200
    assert talk.get(name).body == b"x"
    assert len(talk.head(name).headers["ais-name"]) == 66
    assert name in talk.list()
    assert talk.list(prefix="long/") == []


def test_a_name_cannot_be_a_directory_of_another_on_its_disk(talk: Talk) -> None:
    """Where the two fall on different disks both can be stored: it depends on placement."""
    own = Talk(talk.cluster)
    refused = 0
    for number in range(24):
        assert own.put(f"n{number}", b"x").status == 200
        reply = own.put(f"n{number}/x", b"y")
        refused += reply.status == 400
        assert reply.status == 200 or reply.error["tcode"] == "ErrMv"
        assert own.put(f"m{number}/x", b"x").status == 200
        reply = own.put(f"m{number}", b"y")
        assert reply.status == 200 or reply.error["tcode"] == "ErrMv"
    assert 0 < refused < 24


def test_a_clash_of_names_shows_at_complete_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Protocol 1.6: an upload to a name that cannot be is only refused at its end; its files go, the other's stays."""
    with Cluster(targets=1, directory=tmp_path) as cluster:
        own = Talk(cluster)
        for number in range(64):
            assert own.put(f"n{number}", b"whole").status == 200
            upload = own.upload(f"n{number}/x")
            for part in (1, 2):
                assert upload.part(part, b"part").status == 200
            reply = upload.complete([1, 2])
            if reply.status == 400:
                break
        assert reply.error["tcode"] == "ErrMv"
        assert own.get(f"n{number}").body == b"whole"
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name.isdecimal()]
        assert sum(path.read_bytes() == b"part" for path in files) == 2 * number  # of the uploads that went well


def test_a_target_looks_at_names_itself(talk: Talk) -> None:
    """Protocol 1.6: what the proxy refuses, it refuses, too; PUT before it asks for a marker, POST never."""
    to, marker = talk.owner("any")
    for method in ("PUT", "GET", "DELETE", "PATCH"):
        for name in ("a/", "a/./b", "~/a"):
            reply = ask(to, method, talk.path(name, marker))
            assert (reply.status, reply.message) == (400, f'invalid object name "{name}"')
    assert ask(to, "PUT", talk.path("a/")).error["tcode"] == "errInvalidPath"
    assert ask(to, "DELETE", talk.path("a/")).message.endswith("is expected to be redirected")
    assert ask(to, "POST", talk.path("a/", marker), b'{"action":"mpt-upload"}').status == 200


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('q"\\/', r'"q\"\\/"'),
        ("t\t\n\x01\x7f/", r'"t\t\n\x01\x7f/"'),
        ("é\xa0\u2028😀/", r'"é\u00a0\u2028😀/"'),
        ("\U000e0001/", r'"\U000e0001/"'),
    ],
)
def test_names_in_refusals_are_quoted_as_go_quotes(talk: Talk, name: str, shown: str) -> None:
    assert ask(talk.cluster.endpoint, "PUT", talk.path(name)).message == f"invalid object name {shown}"


def test_bytes_that_are_not_utf_8_are_quoted_one_by_one() -> None:
    assert quoted(os.fsdecode(b"a\xff\x80")) == r'"a\xff\x80"'


def test_head_of_a_name_that_cannot_be(talk: Talk) -> None:
    """Protocol 1.6: the proxy lets HEAD pass; at the target a trailing slash is just a name that is not there."""
    to, _ = talk.owner("any")
    for name, status, tcode in (("a/", 404, "ErrNotFound"), ("a/../b", 400, "errInvalidPath")):
        assert ask(talk.cluster.endpoint, "HEAD", talk.path(name)).status == 307
        reply = ask(to, "HEAD", talk.path(name))
        assert (reply.status, reply.error["tcode"]) == (status, tcode)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_target_reads_the_message_before_it_asks_for_a_marker(talk: Talk, method: str) -> None:
    to, _ = talk.owner("any")
    assert "failed to unmarshal" in ask(to, method, talk.path("any"), b"{").message


@pytest.mark.parametrize(
    ("header", "reason"),
    [("items=0-1", "(prefix)"), ("bytes=5", "(-)"), ("bytes=-x", "(no start)"), ("bytes=3-x", "(end)")],
)
def test_ranges_that_make_no_sense(talk: Talk, header: str, reason: str) -> None:
    talk.put("ranged", b"0123456789")
    reply = talk.send("GET", "ranged", headers={"Range": header})
    assert (reply.status, reply.message.endswith(reason)) == (416, True)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(targets=1, directory=tmp_path) as cluster:
        talk = Talk(cluster)
        upload = talk.upload("x")

        def no_space(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", no_space)
            assert upload.part(1, b"x").status == 507
            assert talk.put("y", b"y").status == 507
        assert upload.part(1, b"x").status == 200
        assert upload.complete([1]).status == 200
        assert talk.list() == ["x"]


def test_empty_segments_are_one_file_on_one_disk(talk: Talk) -> None:
    own = Talk(talk.cluster)
    shared = 0
    for number in range(24):
        own.put(f"d{number}/b", b"one")
        own.put(f"d{number}//b", b"two")
        assert own.get(f"d{number}//b").body == b"two"
        shared += own.get(f"d{number}/b").body == b"two"
    assert 0 < shared < 24


def test_a_prefix_may_miss_names_beside_a_directory(talk: Talk) -> None:
    own = Talk(talk.cluster)
    names = {f"p/{number}" for number in range(12)} | {f"px{number}" for number in range(12)}
    for name in names:
        own.put(name, b"x")
    listed = set(own.list(prefix="p"))
    assert {name for name in names if name.startswith("p/")} <= listed < names
    assert set(own.list()) == names


def test_names_that_are_not_utf_8(talk: Talk) -> None:
    path = talk.path("X").replace("X", "%ff%00x")
    to, marker = talk.owner("X")
    assert ask(to, "PUT", path + marker, b"x").status == 200
    assert ask(to, "GET", path).body == b"x"
    assert b"\xff" in ask(to, "GET", path.replace("x?", "y?")).body


def test_metadata_may_be_given_many_times(talk: Talk) -> None:
    to, marker = talk.owner("many")
    with Call(to) as call:
        call.send(f"PUT {talk.path('many', marker)} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n".encode())
        call.send(b"ais-custom-md: a=1\r\nais-custom-md: b=2=3\r\n\r\n")
        assert call.reply().status == 200
    with Call(to) as call:
        call.head("HEAD", talk.path("many"), None)
        answer = call.socket.recv(1 << 16)
    assert b"Ais-Custom-Md: a=1\r\nAis-Custom-Md: b=2=3\r\n" in answer


def test_room_that_is_not_there(talk: Talk) -> None:
    to, marker = talk.owner("huge")
    with Call(to) as call:
        call.head("PUT", talk.path("huge", marker), 1 << 62)
        assert call.reply().status == 507
    upload = talk.upload("huge")
    with Call(to) as call:
        call.head("PUT", talk.path("huge", f"&uploadId={upload.id}&partNumber=1{marker}"), 1 << 62)
        assert call.reply().status == 507
    assert upload.part(1, b"x").status == 200


def files_under(directory: Path) -> list[Path]:
    """Files that hold bytes of objects; their catalogue stays."""
    return [path for path in directory.rglob("*") if path.is_file() and path.name.isdecimal()]


@pytest.mark.parametrize("extent", ["", "0-0", "524287-524288", "100-1999999", "-1", "1999999-"])
def test_large_objects_come_back_from_memory_and_from_files(tmp_path: Path, extent: str) -> None:
    data = bytes(range(250)) * 8000
    first, _, last = extent.partition("-")
    offset, end = (int(first or len(data) - 1), int(last or len(data) - 1) + 1) if first else (len(data) - 1, len(data))
    for directory in (None, tmp_path / "store"):
        with Cluster(targets=1, directory=directory) as cluster:
            talk = Talk(cluster)
            assert talk.put("o", data).status == 200
            assert cluster.stored_bytes == len(data)
            assert talk.get("o", extent).body == (data[offset:end] if extent else data)
            upload = talk.upload("o")
            upload.part(1, data[:700_000])
            upload.part(2, data[700_000:])
            assert upload.complete([1, 2]).status == 200
            assert talk.get("o", extent).body == (data[offset:end] if extent else data)
            assert talk.send("DELETE", "o").status == 200
            assert cluster.stored_bytes == 0
            assert not files_under(tmp_path)
            assert talk.put("o", data).status == 200
            assert talk.upload("o").part(2, data).status == 200
            assert talk.bucket("DELETE", {"action": "destroy-bck"}).status == 200
            assert cluster.stored_bytes == 0
            assert not files_under(tmp_path)


@settings(max_examples=25, deadline=None)
@given(
    names=st.sets(st.text("ab-.", min_size=1, max_size=4).filter(lambda s: s.strip(".")), max_size=8),
    size=st.integers(1, 4),
)
def test_pages_join_to_the_sorted_whole(talk: Talk, names: set[str], size: int) -> None:
    own = Talk(talk.cluster)
    for name in names:
        own.put(name, b"")
    gathered: list[str] = []
    while page := own.list(pagesize=size, continuation_token=gathered[-1] if gathered else ""):
        gathered += page
    assert gathered == sorted(names) == own.list()


values = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=30,
)


@given(values)
def test_msgpack_is_read_back_by_another_implementation(value: object) -> None:
    assert msgspec.msgpack.decode(pack(value)) == value


@pytest.mark.parametrize("size", [31, 32, 255, 256, 65535, 65536])
def test_msgpack_sizes(size: int) -> None:
    value = {"n": "x" * size, "l": [1] * size}
    assert msgspec.msgpack.decode(pack(value)) == value
