"""The S3 dialect's list of unfinished uploads (protocol 7)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from talk import Reply, Talk, ask

from fastmpu.mock import Cluster


@pytest.fixture
def talk() -> Iterator[Talk]:
    with Cluster(targets=3) as cluster:
        yield Talk(cluster)


def listed(talk: Talk, query: str = "uploads") -> tuple[Reply, ET.Element]:
    reply = ask(talk.cluster.endpoint, "GET", f"/s3/{talk.name}?{query}")
    return reply, ET.fromstring(reply.body)


def test_native_uploads_of_all_targets_by_name(talk: Talk) -> None:
    names = [f"dir/object-{number}" for number in range(8)]
    ids = {talk.upload(name).id: name for name in reversed(names)}
    reply, root = listed(talk)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/xml")
    assert root.tag == "ListMultipartUploadsResult"
    assert [each.findtext("Key") for each in root.iter("Upload")] == names
    assert {each.findtext("UploadId"): each.findtext("Key") for each in root.iter("Upload")} == ids
    assert all((each.findtext("Initiated") or "").endswith("Z") for each in root.iter("Upload"))
    assert root.findtext("IsTruncated") == "false"


def test_a_page_begins_after_its_marker(talk: Talk) -> None:
    for number in range(5):
        talk.upload(f"object-{number}")
    found, marker = [], ""
    while True:
        _, root = listed(talk, f"uploads&max-uploads=2&upload-id-marker={marker}")
        found += [each.findtext("Key") for each in root.iter("Upload")]
        marker = [each.findtext("UploadId") or "" for each in root.iter("Upload")][-1]
        if root.findtext("IsTruncated") == "false":
            break
        assert len(root.findall("Upload")) == 2
    assert found == [f"object-{number}" for number in range(5)]


def test_an_upload_that_is_over_is_not_listed(talk: Talk) -> None:
    upload = talk.upload("over & done <1>")
    _, root = listed(talk)
    assert [each.findtext("Key") for each in root.iter("Upload")] == ["over & done <1>"]
    assert upload.abort().status == 200
    assert listed(talk)[1].findall("Upload") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/s3/no-such-bucket?uploads", 404, "NoSuchBucket"),
        ("GET", "/s3/{bucket}?uploads&max-uploads=x", 400, "InvalidRequest"),
        ("GET", "/s3/{bucket}/name?uploadId=12345678", 501, "NotImplemented"),
        ("PUT", "/s3/{bucket}", 501, "NotImplemented"),
    ],
)
def test_errors_are_xml(talk: Talk, method: str, path: str, status: int, code: str) -> None:
    reply = ask(talk.cluster.endpoint, method, path.format(bucket=talk.name))
    assert (reply.status, reply.headers["content-type"]) == (status, "application/xml")
    assert ET.fromstring(reply.body).findtext("Code") == code
