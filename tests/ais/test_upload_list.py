"""The cluster's list of unfinished uploads is a stranger's XML: it is read, or refused in so many words."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest

import fastmpu
from fastmpu import mock
from fastmpu.ais.messages import Message
from fastmpu.ais.upload_list import ListedUpload, parse_page
from fastmpu.errors import BucketNotFoundError, NotAIStoreError, UsageError

ASKED = Message("GET", "/s3/bucket", "uploads", "list")
ONE = (
    "<Upload><Initiated>2026-08-01T12:00:00.5Z</Initiated><Key>a &lt;b&gt;\u6f22</Key><UploadId>abcdefgh</UploadId>"
    "</Upload>"
)


def page(inside: str, root: str = "ListMultipartUploadsResult") -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}>{inside}</{root.partition(" ")[0]}>'.encode()


@pytest.mark.parametrize(
    "root",
    [
        "ListMultipartUploadsResult",
        "ListMptUploadsResult",
        'ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"',
    ],
)
def test_a_page(root: str) -> None:
    """By any server's name for it, with or without a namespace, with more in it than matters here."""
    read = parse_page(
        ASKED, page(f"<Bucket>b</Bucket>{ONE}<Other><Upload/></Other><IsTruncated>false</IsTruncated>", root)
    )
    assert read.uploads == [ListedUpload("abcdefgh", "a <b>\u6f22", 1785585600.5)]
    assert not read.truncated
    assert parse_page(ASKED, page("", root)).uploads == []


def test_where_the_next_page_begins() -> None:
    """Where the server says, else behind the last entry."""
    cut = "<IsTruncated>true</IsTruncated>"
    read = parse_page(ASKED, page(ONE + cut))
    assert (read.truncated, read.next_id) == (True, "abcdefgh")
    told = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>id</NextUploadIdMarker>"
    read = parse_page(ASKED, page(ONE + cut + told))
    assert (read.next_key, read.next_id) == ("k", "id")


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<ListMultipartUploadsResult><Upload><Key>&b;</Key></Upload></ListMultipartUploadsResult>"
)
OUTSIDE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ListMultipartUploadsResult>&a;</ListMultipartUploadsResult>'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no element"),
        (b"{}", "not well-formed"),
        (page(ONE)[:-5], "unclosed|no element"),
        (b"<html></html>", "it is a 'html'"),
        (LAUGHS, "document type"),
        (OUTSIDE, "document type"),
        (page("&undefined;"), "undefined entity"),
        (page(ONE.replace("abcdefgh", "")), "has no UploadId"),
        (page(ONE.replace("abcdefgh", "a b")), "is no upload id"),
        (page(ONE.replace("2026-08", "yesterday")), "is no time"),
        (page(ONE.replace("2026-08", "2026-99")), "month"),
        (page("\udcff".encode("utf-8", "surrogateescape").decode("latin-1")).replace(b"\xc3", b""), "not well-formed"),
    ],
)
def test_what_is_no_list(body: bytes, reason: str) -> None:
    with pytest.raises(NotAIStoreError, match=reason):
        parse_page(ASKED, body)


@pytest.fixture
def bucket() -> Iterator[fastmpu.Bucket]:
    with mock.Cluster(targets=3) as cluster, fastmpu.Client(cluster.endpoint) as client:
        yield client.bucket("bucket").create()


def test_all_pages(bucket: fastmpu.Bucket) -> None:
    ids = {bucket.object(f"object-{number}").multipart_upload().create().upload_id for number in range(7)}
    for size in (0, 1, 3, 7):
        assert {each.upload_id for each in bucket.list_uploads(page_size=size)} == ids


def test_what_cannot_be_listed(bucket: fastmpu.Bucket) -> None:
    with pytest.raises(BucketNotFoundError, match=r'ais://nobody: bucket "ais://nobody" does not exist \(404'):
        list(bucket.client.bucket("nobody").list_uploads())
    with pytest.raises(UsageError, match="without a namespace"):
        list(bucket.client.bucket("bucket", namespace="#ns").list_uploads())


def test_pages_that_go_in_circles(caplog: pytest.LogCaptureFixture) -> None:
    """A server that tells the same page again and again is not asked for ever."""

    def answer(request: httpx.Request) -> httpx.Response:
        if b"/v1/daemon" in request.extensions["target"]:
            return httpx.Response(200, json=smap)
        return httpx.Response(200, content=page(ONE + "<IsTruncated>true</IsTruncated>"))

    with mock.Cluster(targets=1) as cluster:
        smap = httpx.get(f"{cluster.endpoint}/v1/daemon?what=smap").json()
        with fastmpu.Client(cluster.endpoint, transport=httpx.MockTransport(answer)) as client:
            with caplog.at_level(logging.WARNING, "fastmpu"):
                assert len(list(client.bucket("bucket").list_uploads())) == 1
            assert "in circles" in caplog.text
