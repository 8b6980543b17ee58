"""Redirects: followed once, to members of the cluster map only, and nothing but authority and marker is believed."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from canary import CANARY
from interposer import Action, Forward, Interposer, answer
from stranger import stranger

import fastmpu
from fastmpu import mock
from fastmpu.errors import AmbiguousPartError, RedirectRefusedError


def redirect(status: int, location: str | None) -> Action:
    """The proxy, or what claims to be one, sends the client on."""
    return answer(status, b"", **({} if location is None else {"Location": location}))


def altered(**parts: str) -> Action:
    """The proxy's own redirect, with some parts of the URL replaced on the way, as a man in the middle would."""

    def action(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = forward(request)
        response.read()
        location = urlsplit(response.headers["location"])._replace(**parts).geturl()
        return httpx.Response(response.status_code, headers={"Location": location}, stream=httpx.ByteStream(b""))

    return action


STEPS = {
    "locate": lambda obj: obj.put(b"x"),
    "get": lambda obj: obj.get_reader().read_all(),
    "head": lambda obj: obj.head(),
    "create": lambda obj: obj.multipart_upload().create(),
    "delete": lambda obj: obj.delete(),
    "part": lambda obj: obj.multipart_upload().create().add_part(1).put_content(b"x"),
    "upload": lambda obj: obj.upload(b"x" * 5000, part_size=1000, retry=fastmpu.RetryPolicy(attempts=1)),
}
# What is asked first at each step, and so gets the redirect.
ASKED = {"part": "locate", "upload": "locate"}


@pytest.fixture
def tapped(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Client]:
    """With a token, for strangers not to see."""
    with fastmpu.Client(cluster.endpoint, transport=tap, token=CANARY) as client:
        yield client


@pytest.mark.parametrize("kind", STEPS)
def test_a_stranger_is_never_spoken_to(tap: Interposer, obj: fastmpu.Object, kind: str) -> None:
    """A redirect out of the cluster is refused before connecting: no byte, and no token, goes there."""
    status = 301 if kind == "get" else 307
    with stranger(200) as server:
        location = f"{server.url}/v1/objects/bucket/dir/name.bin?pid=p&utm=u"
        tap.on(ASKED.get(kind, kind), redirect(status, location), direct=False)
        with pytest.raises(RedirectRefusedError, match="not in the cluster map") as caught:
            STEPS[kind](obj)
        assert server.url in str(caught.value)
        assert server.requests == []
        assert CANARY not in repr(caught.value) + repr(caught.value.__cause__)
    assert all(not wire.origin.endswith(server.url[-6:]) for wire in tap.wires)


@pytest.mark.parametrize("kind", STEPS)
def test_a_loop_ends_at_once(tap: Interposer, obj: fastmpu.Object, kind: str) -> None:
    """A target that redirects again is not followed: AIStore redirects once."""
    obj.put(b"there")
    status = 301 if kind == "get" else 307
    target = next(wire.origin for wire in tap.of("put"))
    direct = {"locate": "put", "part": "part", "upload": "create"}.get(kind, kind)
    tap.on(direct, redirect(status, f"{target}/v1/objects/bucket/dir/name.bin?pid=p&utm=u"), direct=True)
    before = len(tap.wires)
    # A part's answer that is none of AIStore's proves nothing (protocol H1): its error says so, with the cause.
    with pytest.raises((RedirectRefusedError, AmbiguousPartError), match="redirects once"):
        STEPS[kind](obj)
    assert [wire.kind for wire in tap.wires[before:]].count(direct) == 2 - (kind in ("locate", "part"))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *(("locate", status) for status in (301, 302, 303, 308)),
        *(("create", status) for status in (301, 303)),
        *(("get", status) for status in (302, 307)),
        *(("delete", status) for status in (301, 302, 303, 308)),
        *(("head", status) for status in (301, 302, 303, 308)),
        *(("part", status) for status in (301, 302, 303, 308)),
    ],
)
def test_only_the_redirects_that_aistore_sends(tap: Interposer, obj: fastmpu.Object, kind: str, status: int) -> None:
    """301 for GET and 307 for the rest. A PUT or POST that would be turned into a GET is refused, and so are others."""
    obj.put(b"there")
    member = next(wire.origin for wire in tap.of("put"))
    tap.on(ASKED.get(kind, kind), redirect(status, f"{member}/x?pid=p&utm=u"), direct=False)
    with pytest.raises(RedirectRefusedError, match=str(status)):
        STEPS[kind](obj)


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "/v1/objects/b/o?pid=p&utm=u",
        "ftp://127.0.0.1/x?pid=p&utm=u",
        "http://?pid=p&utm=u",
        "http://[::1/x?pid=p&utm=u",
        "http://127.0.0.1:99999/x?pid=p&utm=u",
        "http://" + "a" * 60_000,
    ],
)
def test_a_location_that_leads_nowhere(tap: Interposer, obj: fastmpu.Object, location: str | None) -> None:
    """Missing, relative, or no URL at all: a named error, not a crash."""
    tap.on("locate", redirect(307, location))
    with pytest.raises(RedirectRefusedError):
        obj.put(b"x")


@pytest.mark.parametrize("query", ["", "pid=p", "utm=u", "pid=&utm=u", "pid=p&utm="])
def test_a_redirect_without_its_marker(tap: Interposer, obj: fastmpu.Object, query: str) -> None:
    """A target would refuse the request without pid and utm: refused here, so that no body is sent in vain."""
    tap.on("locate", altered(query=query))
    with pytest.raises(RedirectRefusedError, match="pid or utm"):
        obj.put(b"x")
    assert tap.count("put") == 0


def test_the_scheme_does_not_change(tap: Interposer, obj: fastmpu.Object) -> None:
    """Neither up nor, above all, down."""
    tap.on("locate", altered(scheme="https"))
    with pytest.raises(RedirectRefusedError, match="from http to https"):
        obj.put(b"x")


@pytest.mark.parametrize(
    "where", ["user:pw@{}", "{}.evil.invalid", "{}@evil.invalid", "evil.invalid#{}", "evil.invalid/{}"]
)
def test_an_authority_that_only_looks_like_a_member(tap: Interposer, obj: fastmpu.Object, where: str) -> None:
    """What a URL's host is, is decided once, by the parser, and compared as a whole."""
    obj.put(b"there")
    member = next(wire.origin for wire in tap.of("put")).partition("//")[2]
    tap.on("locate", redirect(307, f"http://{where.format(member)}?pid=p&utm=u"))
    before = tap.count("put")
    if where.startswith("user:"):
        obj.put(b"x")  # the host is the member's, and of the URL only host and port are used
        assert tap.wires[-1].authorization == f"Bearer {CANARY}"
        return
    with pytest.raises(RedirectRefusedError):
        obj.put(b"x")
    assert tap.count("put") == before


def test_the_path_in_a_location_is_not_believed(tap: Interposer, obj: fastmpu.Object) -> None:
    """AIStore writes decoded names there, with spaces for line breaks (protocol 1.2): following it would store another
    object."""
    tap.on("locate", altered(path="/v1/objects/bucket/another"))
    tap.on("create", altered(path="/v1/objects/bucket/another"), direct=False)
    obj.put(b"mine")
    assert obj.get_reader().read_all() == b"mine"
    obj.upload(b"mine, too" * 1000, part_size=1000)
    assert obj.get_reader().read_all() == b"mine, too" * 1000
    assert not obj.bucket.object("another").exists()


def test_extra_words_in_the_marker_are_not_passed_on(tap: Interposer, obj: fastmpu.Object) -> None:
    """Only pid and utm are taken: `uploadId` or `partNumber` of a redirect would change what is stored (H7)."""
    tap.on("locate", altered(query="uploadId=evil&pid=p&provider=aws&utm=u&partNumber=3"))
    obj.put(b"mine")
    sent = tap.of("put")[0].query
    assert sent == {"provider": "ais", "pid": "p", "utm": "u"}
    assert obj.get_reader().read_all() == b"mine"


@pytest.mark.parametrize(
    ("pid", "meant"),
    [
        ("a+b", "a b"),
        ("a b", "a b"),
        ("a%2Bb", "a+b"),
        ("%31", "1"),
        ("a/b:c=d", "a/b:c=d"),
        ("%26partNumber=3", "&partNumber=3"),
        ("first&pid=last", "last"),
    ],
)
def test_a_marker_is_sent_as_it_is_meant(tap: Interposer, obj: fastmpu.Object, pid: str, meant: str) -> None:
    """Nothing in it can begin another field of ours, and an empty signature is none."""
    tap.on("locate", altered(query=f"pid={pid}&utm=1&u="))
    obj.put(b"mine")
    assert tap.of("put")[0].query == {"provider": "ais", "pid": meant, "utm": "1"}
    assert obj.get_reader().read_all() == b"mine"


def test_a_new_member_is_looked_up(tap: Interposer, obj: fastmpu.Object) -> None:
    """A redirect to a node that the known map lacks has the map fetched again before it is refused."""
    tap.on("locate", redirect(307, "http://127.0.0.1:1/x?pid=p&utm=u"))
    before = tap.count("map")
    with pytest.raises(RedirectRefusedError):
        obj.put(b"x")
    assert tap.count("map") == before + 1
