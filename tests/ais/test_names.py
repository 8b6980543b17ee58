"""Names: what AIStore keeps is kept as it is, and what it would refuse or mangle never reaches it (protocol 1.6)."""

from __future__ import annotations

import uuid

import pytest
from interposer import Interposer

import fastmpu
from fastmpu.ais import parse_uri
from fastmpu.errors import InvalidNameError

ROUND_TRIPS = [
    "plain",
    "a/b/c.bin",
    " leading and trailing ",
    "100%",
    "%41",
    "%2F",
    "%zz",
    "what?",
    "frag#ment",
    "plus+plus",
    "a&b=c;d:e,f@g",
    "*'\"<>\\^|{}[]$!`",
    "...",
    "..name",
    "name..",
    "a/.hidden",
    "~x",
    "a/~/b",
    "ünïcödé-漢字-🎉",
    "e\u0301 is not \u00e9",
    "\u202eright-to-left",
    "x" * 255,
    "/".join(["y" * 200] * 4),
]
REFUSED = [
    ("", "empty"),
    ("/lead", "empty path segment"),
    ("a//b", "empty path segment"),
    ("dir/", "trailing"),
    (".", "'.'"),
    ("..", "'..'"),
    ("a/./b", "'.'"),
    ("a/../b", "'..'"),
    ("../etc/passwd", "'..'"),
    ("~/x", "~/"),
    ("new\nline", "control"),
    ("cr\rlf", "control"),
    ("tab\t", "control"),
    ("nul\0", "control"),
    ("bell\x07", "control"),
    ("del\x7f", "control"),
    ("c1\x85", "control"),
    ("lone\ud800", "surrogate"),
    ("z" * 256, "255"),
    ("é" * 128, "255"),
    ("/".join(["w" * 250] * 20), "bytes"),
]


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_name_comes_back_as_it_went(bucket: fastmpu.Bucket, name: str) -> None:
    """PUT, HEAD, GET, list, multipart upload, DELETE: all mean the same object, and no other."""
    obj = bucket.object(name)
    assert obj.name == name
    obj.put(b"whole")
    assert obj.get_reader().read_all() == b"whole"
    assert [entry.name for entry in bucket.list()] == [name]
    data = b"in parts" * 500
    assert obj.upload(data, part_size=1000).uri == obj.uri
    assert obj.head().size == len(data)
    assert obj.get_reader().read_all() == data
    assert [(entry.name, entry.size) for entry in bucket.list()] == [(name, len(data))]
    obj.delete()
    assert list(bucket.list()) == []


@pytest.mark.parametrize("pair", [("%41", "A"), ("a%2Fb", "a/b"), ("a+b", "a b"), ("e\u0301", "\u00e9"), ("A", "a")])
def test_names_that_look_alike_are_two_objects(bucket: fastmpu.Bucket, pair: tuple[str, str]) -> None:
    """Escaped once, decoded once, and not normalised."""
    for name in pair:
        bucket.object(name).put(name.encode())
    assert [bucket.object(name).get_reader().read_all() for name in pair] == [name.encode() for name in pair]


@pytest.mark.parametrize(("name", "why"), REFUSED, ids=lambda value: repr(value)[:24])
def test_a_name_that_aistore_would_refuse_or_mangle(
    tapped: fastmpu.Client, tap: Interposer, name: str, why: str
) -> None:
    """A ValueError that shows the name and the reason, before any request."""
    with tap.silence(), pytest.raises(InvalidNameError, match="bad object name") as caught:
        tapped.bucket("b").object(name)
    assert why in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "x" * 65, "a..b", "..", "a%41", "a?b", "a\n"])
def test_a_bad_bucket_name(tapped: fastmpu.Client, tap: Interposer, name: str) -> None:
    """Refused before any request; the value is shown."""
    with tap.silence(), pytest.raises(InvalidNameError) as caught:
        tapped.bucket(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64, "-", "_x"])
def test_bucket_names_that_are_fine(client: fastmpu.Client, name: str) -> None:
    unique = (name + uuid.uuid4().hex[:8])[-64:]
    bucket = client.bucket(unique).create()
    assert bucket.head().checksum_type
    bucket.delete()


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("ais://b/o", ("ais", "", "b", "o")),
        ("ais://b", ("ais", "", "b", "")),
        ("ais://b/", ("ais", "", "b", "")),
        ("ais://b/dir/", ("ais", "", "b", "dir/")),
        ("AIS://b/a/b?c#d", ("ais", "", "b", "a/b?c#d")),
        ("s3://b/o", ("aws", "", "b", "o")),
        ("aws://b/o", ("aws", "", "b", "o")),
        ("gs://b/o", ("gcp", "", "b", "o")),
        ("gcp://b/o", ("gcp", "", "b", "o")),
        ("az://b/o", ("azure", "", "b", "o")),
        ("azure://b/o", ("azure", "", "b", "o")),
        ("oc://b/o", ("oci", "", "b", "o")),
        ("oci://b/o", ("oci", "", "b", "o")),
        ("ais://#ns/b/o", ("ais", "@#ns", "b", "o")),
        ("ais://@uuid#ns/b/o", ("ais", "@uuid#ns", "b", "o")),
    ],
)
def test_uris(uri: str, parsed: tuple[str, str, str, str]) -> None:
    assert tuple(parse_uri(uri)) == parsed


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("", "''"),
        ("b/o", "'b/o'"),
        ("/b/o", "'/b/o'"),
        ("://b/o", "'://b/o'"),
        ("ais:/b/o", "'ais:/b/o'"),
        ("ais:///o", "'ais:///o'"),
        ("ais://", "'ais://'"),
        ("ftp://b/o", "'ftp'"),
        ("http://host/b/o", "'http'"),
        ("file:///x", "'file'"),
        ("ais://b b/o", "'b b'"),
        ("ais://..//o", "'..'"),
        ("ais://#/b/o", "'#'"),
        ("ais://b/a/../o", "'a/../o'"),
    ],
)
def test_uris_that_are_none(uri: str, shown: str, tapped: fastmpu.Client, tap: Interposer) -> None:
    """The error shows what is wrong; nothing is sent."""
    with tap.silence(), pytest.raises(InvalidNameError) as caught:
        fastmpu.upload(b"x", uri, client=tapped)
    assert shown in str(caught.value)


def test_a_uri_survives_str() -> None:
    for uri in ("ais://b/o", "ais://b", "ais://@#ns/b/a/b", "ais://@uuid#ns/b/o"):
        assert str(parse_uri(uri)) == uri
    assert str(parse_uri("s3://b/o")) == "aws://b/o"


def test_a_provider_or_namespace_that_is_unknown(tapped: fastmpu.Client, tap: Interposer) -> None:
    with tap.silence():
        with pytest.raises(InvalidNameError, match="hdfs"):
            tapped.bucket("b", provider="hdfs")
        with pytest.raises(InvalidNameError, match="ns1"):
            tapped.bucket("b", namespace="ns1")
    assert tapped.bucket("b", provider="s3").provider == "aws"
    assert tapped.bucket("b", namespace="#ns1").uri == "ais://@#ns1/b"
