"""Tokens at the proxy, closed targets, signed redirects (protocol 1.3, 1.5)."""

from __future__ import annotations

import json
import sys
import urllib.parse
from collections.abc import Iterator

import pytest
from canary import CANARY
from talk import Call, Reply, ask

from fastmpu.mock import Cluster, Tokens
from fastmpu.mock.auth import PERMISSIONS

LIST = json.dumps({"action": "list", "value": {}}).encode()
CREATE = b'{"action":"create-bck"}'
ALL, READER, LATER = (f"{name}-{CANARY}" for name in ("all", "reader", "later"))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def tokens() -> Tokens:
    tokens = Tokens(ALL)
    tokens.add(READER, allow="ro", buckets=["open"], user="rita")
    return tokens


@pytest.fixture
def cluster(tokens: Tokens) -> Iterator[Cluster]:
    with Cluster(targets=1, tokens=tokens) as cluster:
        cluster.bucket("open").put("o", b"data")
        cluster.bucket("closed").put("o", b"data")
        yield cluster


def test_who_shows_no_token_gets_401(cluster: Cluster) -> None:
    for method, path, body in (
        ("GET", "/v1/objects/open/o", b""),
        ("PUT", "/v1/objects/open/o", b""),
        ("DELETE", "/v1/objects/open/o", b""),
        ("POST", "/v1/objects/open/o", b'{"action":"mpt-upload"}'),
        ("GET", "/v1/buckets", LIST),
        ("GET", "/v1/buckets/open", LIST),
        ("POST", "/v1/buckets/new", CREATE),
        ("DELETE", "/v1/buckets/open", b'{"action":"destroy-bck"}'),
        ("PATCH", "/v1/buckets/open", b'{"action":"set-bprops","value":{}}'),
        ("GET", "/v1/daemon?what=smap", b""),
    ):
        reply = ask(cluster.endpoint, method, path, body)
        assert (reply.status, reply.message) == (401, "token required"), path
        assert str(reply.error["node"]).startswith("p[")
    reply = ask(cluster.endpoint, "HEAD", "/v1/buckets/open")
    assert (reply.status, reply.message) == (401, "token required")
    assert ask(cluster.endpoint, "GET", "/v1/health").status == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Authorization", "Bearer {}", 307),
        ("Authorization", "bearer {}", 401),
        ("Authorization", "Basic {}", 401),
        ("Authorization", "Bearer ", 401),
        ("X-Amz-Security-Token", "{}", 307),
        ("X-Amz-Security-Token", "other", 401),
    ],
)
def test_where_the_token_may_stand(cluster: Cluster, header: str, value: str, status: int) -> None:
    assert ask(cluster.endpoint, "PUT", "/v1/objects/open/o", headers={header: value.format(ALL)}).status == status


def test_tokens_come_and_go_while_the_cluster_runs(cluster: Cluster, tokens: Tokens) -> None:
    def put(token: str) -> Reply:
        return ask(cluster.endpoint, "PUT", "/v1/objects/open/o", headers=bearer(token))

    unknown = put(LATER)
    assert unknown.status == 401
    assert unknown.message.startswith('invalid token from header "Authorization": invalid token')
    assert unknown.message.endswith(f": {LATER}")  # AIStore repeats it: who logs the message, logs the token
    tokens.add(LATER)
    assert put(LATER).status == 307
    tokens.expire(LATER)
    assert "token expired" in put(LATER).message
    tokens.add(LATER)
    assert put(LATER).status == 307
    tokens.revoke(LATER)
    assert "token revoked" in put(LATER).message
    tokens.add("short", lifetime=0)
    assert "token expired" in put("short").message


def test_403_for_what_a_token_may_not(cluster: Cluster) -> None:
    def status(method: str, path: str, body: bytes = b"") -> int:
        return ask(cluster.endpoint, method, path, body, bearer(READER)).status

    assert status("GET", "/v1/objects/open/o") == 301
    assert status("HEAD", "/v1/objects/open/o") == 307
    assert status("GET", "/v1/buckets/open", LIST) == 200
    assert status("GET", "/v1/buckets", LIST) == 200
    assert status("GET", "/v1/daemon?what=smap") == 200
    assert status("PUT", "/v1/objects/open/o") == 403
    assert status("POST", "/v1/objects/open/o", b'{"action":"mpt-upload"}') == 403
    assert status("DELETE", "/v1/objects/open/o") == 403
    assert status("PATCH", "/v1/objects/open/o") == 403
    assert status("POST", "/v1/buckets/new", CREATE) == 403
    assert status("GET", "/v1/objects/closed/o") == 403
    reply = ask(cluster.endpoint, "PUT", "/v1/objects/open/o", headers=bearer(READER))
    assert reply.message.startswith("user `rita` has insufficient permissions: [user rita, bucket ais://open, granted(")


def test_targets_ask_for_no_token_but_for_the_proxys_marker(cluster: Cluster) -> None:
    target = cluster.targets[0].url
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        reply = ask(target, method, "/v1/objects/open/o")
        assert (reply.status, reply.message) == (403, "direct target access denied")
    assert ask(target, "GET", "/v1/objects/open/o?pid=any&utm=thing").body == b"data"


def test_bad_arguments() -> None:
    for options, reason in (({"allow": "everything"}, PERMISSIONS[0]), ({"allow": ["GET", "ro", "x"]}, "not 'x'")):
        with pytest.raises(ValueError, match=reason):
            Tokens().add("t", **options)
    with pytest.raises(ValueError, match="without spaces"):
        Tokens("a b")
    with pytest.raises(ValueError, match="several"):
        Cluster(tokens="secret")
    with pytest.raises(KeyError):
        Tokens().revoke("unknown")
    assert "secret" not in repr(Tokens("secret"))


# -- signed redirects


@pytest.fixture(params=["Ed25519", "stand-in"])
def signing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with Cluster(targets=2, signed_redirects=True, closing_delay=0.05) as cluster:
        cluster.bucket("b")
        yield cluster


def redirected(cluster: Cluster, path: str, size: int, method: str = "PUT", **headers: str) -> tuple[str, str]:
    """The authority and the query of the redirect for a body of so many bytes, which is not sent."""
    with Call(cluster.endpoint) as call:
        call.head(method, path, size, headers)
        url = urllib.parse.urlsplit(call.reply().headers["location"])
    return url.netloc, url.query


def test_a_redirect_is_signed_for_its_length(signing: Cluster) -> None:
    path, data = "/v1/objects/b/o", b"x" * 1000
    for headers in ({"Expect": "100-continue"}, {"Connection": "close"}):
        to, query = redirected(signing, path, len(data), **headers)
        said = dict(urllib.parse.parse_qsl(query))
        assert set(said) == {"pid", "utm", "vpams", "x", "u"}
        assert len(said["u"]) == 86
        assert ask(to, "PUT", f"{path}?{query}", data).status == 200
    assert signing.bucket("b").read("o") == data


def test_the_length_0_trick_ends_at_the_target(signing: Cluster) -> None:
    to, query = redirected(signing, "/v1/objects/b/o", 0)
    reply = ask(to, "PUT", f"/v1/objects/b/o?{query}", b"data")
    assert (reply.status, reply.message) == (401, "node signature verification failed")
    assert ask(to, "PUT", f"/v1/objects/b/o?{query}").status == 200  # an empty object is what was signed


def test_what_a_signature_covers_and_what_not(signing: Cluster) -> None:
    path, data = "/v1/objects/b/a%20b", b"123"
    upload = ask(*at(signing, path, "POST", b'{"action":"mpt-upload"}')).body.decode()
    to, query = redirected(signing, f"{path}?uploadId={upload}&partNumber=1", 3, Expect="100-continue")
    marker = "&".join(item for item in query.split("&") if not item.startswith(("uploadId", "partNumber")))

    def part(number: int, body: bytes, name: str = path, method: str = "PUT") -> int:
        return ask(to, method, f"{name}?uploadId={upload}&partNumber={number}&{marker}", body).status

    assert part(1, data) == 200
    assert part(2, b"456") == 200  # another part of equal size
    assert part(3, b"4567") == 401
    assert part(3, data, "/v1/objects/b/other") == 401
    assert part(3, b"{ }", method="DELETE") == 401
    complete = {"action": "mpt-complete", "value": [{"part-number": n, "etag": ""} for n in (1, 2)]}
    body = json.dumps(complete).encode()
    assert ask(*at(signing, f"{path}?uploadId={upload}", "POST", body)).status == 200
    assert signing.bucket("b").read("a b") == b"123456"


def at(cluster: Cluster, path: str, method: str, body: bytes) -> tuple[str, str, str, bytes]:
    """What `ask` needs to send a message where the proxy says."""
    url = urllib.parse.urlsplit(ask(cluster.endpoint, method, path, body).headers["location"])
    return url.netloc, method, f"{url.path.replace(' ', '%20')}?{url.query}", body


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": None}, "missing signature [smapVer"),
        ({"u": "short"}, "invalid signature length: 5"),
        ({"u": "!" * 86}, "invalid signature encoding"),
        ({"u": "A" * 86}, "node signature verification failed"),
        ({"x": "1"}, "node signature verification failed"),
        ({"x": "%20", "vpams": "-"}, "node signature verification failed"),
        ({"pid": "stranger"}, "cannot verify request: node stranger not present"),
    ],
)
def test_what_is_not_signed_is_refused(signing: Cluster, change: dict[str, str | None], message: str) -> None:
    to, query = redirected(signing, "/v1/objects/b/o", 0)
    said = dict(urllib.parse.parse_qsl(query)) | change
    text = "&".join(f"{key}={value}" for key, value in said.items() if value is not None)
    reply = ask(to, "PUT", f"/v1/objects/b/o?{text}")
    assert reply.status == 401
    assert reply.message.startswith(message)


def test_signing_closes_targets_and_shows_in_the_map(signing: Cluster) -> None:
    reply = ask(signing.targets[0].url, "GET", "/v1/objects/b/o")
    assert (reply.status, reply.message) == (403, "direct target access denied")
    found = json.loads(ask(signing.endpoint, "GET", "/v1/daemon?what=smap").body)
    assert len(found["proxy_si"]["verifying_key"]) == 44
    assert all("verifying_key" not in node for node in found["tmap"].values())
