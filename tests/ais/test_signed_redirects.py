"""Clusters that sign their redirects: a signature holds for one body length, so the markers are asked for with it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

import httpx
import pytest
from interposer import Action, Forward, Interposer, refuse

import fastmpu
from fastmpu import mock
from fastmpu.errors import AuthError

DATA = bytes(range(250)) * 10 + b"tail"


@pytest.fixture
def signing() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=2, signed_redirects=True) as cluster:
        yield cluster


@pytest.fixture
def signed(signing: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Object]:
    with fastmpu.Client(signing.endpoint, transport=tap) as client:
        yield client.bucket("b").create().object("dir/näme.bin")


def test_an_upload_in_parts(signed: fastmpu.Object, tap: Interposer) -> None:
    """One question that finds out, then one for each length of a part; no part is sent in vain."""
    receipt = signed.upload(DATA, part_size=500)
    assert signed.get_reader().read_all() == DATA
    assert receipt.attempts == len(receipt.parts) == 6
    assert len(tap.of("part")) == 6
    asked = {wire.length for wire in tap.of("locate")}
    assert {4, 500} <= asked
    assert len({wire.query["u"] for wire in tap.of("part")}) <= 16, "each thread may have asked for its own"


def test_large_parts(signed: fastmpu.Object, tap: Interposer) -> None:
    """A body of 256 KiB and more, whose withholding the proxy answers by closing (protocol 1.4)."""
    data = DATA * 500
    signed.upload(data, part_size="512KiB")
    assert signed.get_reader().read_all() == data


def test_one_after_the_other_asks_once_for_each_length(signed: fastmpu.Object, tap: Interposer) -> None:
    signed.bucket.object("first").put(b"so that it is known that the cluster signs")
    before = len(tap.of("locate"))
    signed.upload(DATA, part_size=500, engine="inline")
    assert sorted(wire.length for wire in tap.of("locate")[before:] if wire.length) == [4, 500]


def test_whole_objects_of_any_size(signed: fastmpu.Object) -> None:
    for size in (0, 1, 500, 300_000, 500):
        signed.put(b"z" * size)
        assert signed.get_reader().read_all() == b"z" * size


def test_every_other_step(signed: fastmpu.Object) -> None:
    """Requests that go through the proxy carry the same body to both, and the signature along."""
    upload = signed.multipart_upload().create()
    upload.add_part(2).put_content(b"two")
    assert upload.probe_gaps() is not None
    upload.abort()
    signed.put(b"x")
    assert signed.head().size == 1
    signed.delete()
    assert not signed.exists()


def unsigned_at_first(request: httpx.Request, forward: Forward) -> httpx.Response:
    """A proxy that does not let on that it signs: the signature is cut from what it answers."""
    response = forward(request)
    response.read()
    where = urllib.parse.urlsplit(response.headers["location"])
    query = urllib.parse.parse_qs(where.query)
    kept = urllib.parse.urlencode({key: query[key][-1] for key in ("pid", "utm")})
    headers = {"Location": where._replace(query=kept).geturl()}
    return httpx.Response(response.status_code, headers=headers, stream=httpx.ByteStream(b""))


def test_a_part_is_refused_by_its_target(signed: fastmpu.Object, tap: Interposer) -> None:
    """401 to markers that were asked for without a length: asked again with it, and the part is sent once more."""
    tap.on("locate", unsigned_at_first, times=1)
    receipt = signed.upload(DATA, part_size=500, engine="inline")
    assert signed.get_reader().read_all() == DATA
    assert len(receipt.parts) == 6
    assert len(tap.of("part")) == 7


def test_a_signature_that_serves_only_once(signed: fastmpu.Object, tap: Interposer) -> None:
    """Should a cluster remember what it has seen: from then on every part asks for itself."""
    used: set[str] = set()

    def once(request: httpx.Request, forward: Forward) -> httpx.Response:
        signature = urllib.parse.parse_qs(bytes(request.extensions["target"]).decode())["u"][0]
        if signature in used:
            return refuse(401, message="node signature verification failed: seen before")(request, forward)
        used.add(signature)
        return forward(request)

    tap.on("part", once)
    signed.upload(DATA, part_size=500, engine="inline")
    assert signed.get_reader().read_all() == DATA
    assert len(tap.of("part")) == 7


def test_a_target_that_refuses_everything(obj: fastmpu.Object, tap: Interposer) -> None:
    """It does not sign, so nothing else can be tried: the error, nothing stored, and the upload aborted."""
    tap.on("part", refuse(401, message="missing signature"))
    with pytest.raises(fastmpu.errors.PartError) as caught:
        obj.upload(b"x" * 1000, part_size=500, engine="inline")
    assert isinstance(caught.value.__cause__, AuthError)
    assert len(tap.of("part")) == 1
    assert tap.count("abort") == 1


def test_a_proxy_that_wants_the_body(signed: fastmpu.Object, tap: Interposer) -> None:
    """What is no proxy of AIStore's gets no data: an error, not a wait."""
    signed.put(b"now it is known that the cluster signs")

    def goes_on(request: httpx.Request, forward: Forward) -> httpx.Response:
        assert request.headers["expect"] == "100-continue"
        raise httpx.RemoteProtocolError("the server wants the body, where it was to say where the body goes")

    story: Action = goes_on
    tap.on("locate", story)
    with pytest.raises(fastmpu.errors.TransportError, match="wants the body"):
        signed.put(b"x")
