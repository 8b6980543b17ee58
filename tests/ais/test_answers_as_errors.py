"""What the cluster, or something that is none, answers becomes the one right error (protocol 2)."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from interposer import Forward, Interposer, answer, lose_answer, refuse, respond, time_out
from stranger import WEB_PAGE, stranger

import fastmpu
from fastmpu import mock
from fastmpu.errors import (
    AuthError,
    BucketExistsError,
    BucketNotFoundError,
    ChecksumRefusedError,
    ClusterError,
    ConnectFailedError,
    NotAIStoreError,
    ObjectNotFoundError,
    OutOfSpaceError,
    RateLimitedError,
    ResponseTimeoutError,
    TransportError,
    UnavailableError,
    UploadNotFoundError,
    UsageError,
)

# --- for real ---------------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there(client: fastmpu.Client) -> None:
    """Said alike by HEAD (whose error is in a header), GET, PUT, DELETE and POST; a LookupError, for callers."""
    bucket = client.bucket("no-such-bucket-here")
    obj = bucket.object("x")
    for step in (
        bucket.head,
        bucket.delete,
        lambda: list(bucket.list()),
        lambda: obj.put(b"x"),
        obj.get_reader().read_all,
        obj.multipart_upload().create,
        lambda: obj.upload(b"x"),
        lambda: obj.upload(b"x" * 5000, part_size=1000),
    ):
        with pytest.raises(BucketNotFoundError, match="no-such-bucket-here") as caught:
            step()
        assert isinstance(caught.value, LookupError)
        assert caught.value.status == 404
        assert caught.value.tcode == "ErrBckNotFound"
        assert caught.value.node
    bucket.delete(missing_ok=True)


def test_an_object_that_is_not_there(bucket: fastmpu.Bucket) -> None:
    """A FileNotFoundError for those who catch built-ins, from HEAD, GET and DELETE."""
    obj = bucket.object("not/there")
    for step in (obj.head, obj.delete, obj.get_reader().read_all):
        with pytest.raises(ObjectNotFoundError, match="not/there") as caught:
            step()
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.status == 404
    assert not obj.exists()
    obj.delete(missing_ok=True)


def test_a_bucket_that_is_there_already(bucket: fastmpu.Bucket) -> None:
    """A FileExistsError, unless `exist_ok`."""
    with pytest.raises(BucketExistsError, match="already exists") as caught:
        bucket.create()
    assert isinstance(caught.value, FileExistsError)
    assert caught.value.status == 409
    assert bucket.create(exist_ok=True) is bucket


def test_a_checksum_that_does_not_fit(bucket: fastmpu.Bucket) -> None:
    """The cluster checks before it stores: nothing is there afterwards, and a former object stays."""
    obj = bucket.object("checked")
    with pytest.raises(ChecksumRefusedError, match="BAD DATA CHECKSUM"):
        obj.put(b"123456789", checksum=("crc32c", "00000000"))
    assert not obj.exists()
    obj.put(b"123456789", checksum=("crc32c", "e3069283"))
    with pytest.raises(ChecksumRefusedError):
        obj.put(b"other", checksum=("md5", "0" * 32))
    assert obj.get_reader().read_all() == b"123456789"


def test_a_checksum_type_that_would_drop_the_connection(tap: Interposer, obj: fastmpu.Object) -> None:
    """AIStore panics at an unknown type (protocol 2): refused before any request, with those it knows."""
    with tap.silence(), pytest.raises(UsageError, match=r"sha1.*crc32c"):
        obj.put(b"x", checksum=("sha1", "00"))


# --- by status --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "tcode", "kind", "builtin"),
    [
        (400, "", ClusterError, fastmpu.FastMPUError),
        (401, "", AuthError, PermissionError),
        (403, "", AuthError, PermissionError),
        (404, "ErrBckNotFound", BucketNotFoundError, LookupError),
        (404, "ErrRemoteBckNotFound", BucketNotFoundError, LookupError),
        (400, "ErrBckNotFound", BucketNotFoundError, LookupError),
        (404, "ErrNotFound", ObjectNotFoundError, FileNotFoundError),
        (404, "", ObjectNotFoundError, FileNotFoundError),
        (409, "", ClusterError, fastmpu.FastMPUError),
        (416, "ErrRangeNotSatisfiable", ClusterError, fastmpu.FastMPUError),
        (429, "ErrRateLimitFrontend", RateLimitedError, fastmpu.FastMPUError),
        (500, "", ClusterError, fastmpu.FastMPUError),
        (500, "ErrBadCksum", ChecksumRefusedError, fastmpu.FastMPUError),
        (502, "", UnavailableError, fastmpu.FastMPUError),
        (503, "", UnavailableError, fastmpu.FastMPUError),
        (504, "", UnavailableError, fastmpu.FastMPUError),
        (507, "", OutOfSpaceError, fastmpu.FastMPUError),
    ],
)
@pytest.mark.parametrize("verb", ["get", "head", "put"])
def test_every_status_has_its_class(
    tap: Interposer,
    obj: fastmpu.Object,
    verb: str,
    status: int,
    tcode: str,
    kind: type[ClusterError],
    builtin: type[Exception],
) -> None:
    """The status decides; the server's words are kept. HEAD has them in `Hdr-Error`."""
    tap.on(verb, refuse(status, tcode, "the server's own words", node="t[node1]"))
    steps: dict[str, Callable[[], object]] = {
        "get": obj.get_reader().read_all,
        "head": obj.head,
        "put": lambda: obj.put(b"x"),
    }
    with pytest.raises(kind) as caught:
        steps[verb]()
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, builtin)
    assert (error.status, error.tcode, error.message, error.node) == (
        status,
        tcode,
        "the server's own words",
        "t[node1]",
    )
    assert obj.uri in str(error)
    assert "the server's own words" in str(error)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own time is not GMT."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("9" * 400, math.inf, math.inf),
        ("%a, %d %b %Y %H:%M:%S GMT", 3500, 3600),
        ("%A, %d-%b-%y %H:%M:%S GMT", 3500, 3600),
        ("%a %b %d %H:%M:%S %Y", 3500, 3600),
        ("Mon, 20 Nov 1995 19:12:08 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 -2300", 1e9, math.inf),
    ],
)
def test_retry_after_in_both_forms(
    tap: Interposer, obj: fastmpu.Object, text: str, low: float, high: float, far_east: None
) -> None:
    """Seconds, or a date in any of HTTP's three ways to write one, always GMT (RFC 9110, sections 5.6.7 and 10.2.3)."""
    tap.on("put", answer(503, Retry_After=time.strftime(text, time.gmtime(time.time() + 3600))))
    with pytest.raises(UnavailableError) as caught:
        obj.put(b"x")
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-5", "1.5", "1e3", "0x10", "7 s", "Mon, 20 Nov 1995 19:12:08 +99999999999999", "31 Feb 2027"],
)
def test_retry_after_without_a_meaning(tap: Interposer, obj: fastmpu.Object, text: str) -> None:
    """Is as none."""
    tap.on("put", answer(503, Retry_After=text))
    with pytest.raises(UnavailableError) as caught:
        obj.put(b"x")
    assert caught.value.retry_after is None


def test_an_unknown_upload(obj: fastmpu.Object, tap: Interposer) -> None:
    """A 404 about an upload is not one about the object."""
    mpu = obj.multipart_upload().create()
    tap.on("abort", refuse(404, "wrapError", "failed to load partial chunk-manifest"), direct=True)
    assert mpu.abort() is None
    tap.on("complete", refuse(404, "ErrFailedTo", "failed to finalize"), direct=True)
    second = obj.multipart_upload().create()
    second.add_part(1).put_content(b"x")
    with pytest.raises(fastmpu.errors.UploadLostError, match="older object") as caught:
        second.complete()
    assert isinstance(caught.value.__cause__, UploadNotFoundError)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_node_that_is_starting(tap: Interposer, client: fastmpu.Client, obj: fastmpu.Object) -> None:
    """503 without a body: there is a message all the same."""
    tap.on("head", answer(503), direct=True)
    with pytest.raises(UnavailableError, match="no reason given"):
        obj.head()


def test_words_that_are_not_utf8_or_would_play_with_the_terminal(tap: Interposer, obj: fastmpu.Object) -> None:
    """Decoded with replacement, cut, and without control characters (reliability F6)."""
    text = b'{"message":"\xff\xfe \x1b[2J' + b"x" * 5000 + b'","node":"t[a]"}'
    tap.on("get", answer(400, text, Content_Type="application/json"), direct=True)
    with pytest.raises(ClusterError) as caught:
        obj.get_reader().read_all()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    tap.on("head", answer(400, Hdr_Error=json.dumps({"message": "\x1b[2Jhi", "node": "t[a]"})), direct=True)
    with pytest.raises(ClusterError) as caught:
        obj.head()
    assert str(caught.value).isprintable()


def test_an_error_of_endless_words(tap: Interposer, obj: fastmpu.Object) -> None:
    """An answer is read up to a limit."""
    tap.on("get", answer(400, b"x" * (3 << 20)), direct=True)
    with pytest.raises(NotAIStoreError, match="more than"):
        obj.get_reader().read_all()


# --- no AIStore -------------------------------------------------------------------------------------------------------


def steps_of(client: fastmpu.Client) -> list[Callable[[], object]]:
    bucket = client.bucket("bucket")
    obj = bucket.object("x")
    return [
        bucket.create,
        bucket.head,
        lambda: list(bucket.list()),
        lambda: obj.put(b"x"),
        obj.get_reader().read_all,
        obj.head,
        obj.multipart_upload().create,
        lambda: obj.upload(b"x" * 5000, part_size=1000),
        client.cluster_map,
    ]


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", WEB_PAGE),
        (404, "text/html; charset=utf-8", WEB_PAGE),
        (403, "text/html", WEB_PAGE),
        (405, "text/html", WEB_PAGE),
        (404, "text/plain; charset=utf-8", b"404 page not found\n"),
        (405, "text/plain", b"Method Not Allowed"),
        (200, "application/json", b"{}"),
        (200, "application/json", b"[1, 2]"),
        (200, "application/json", b'{"pmap": {"p": 3}, "tmap": {}, "uuid": "u", "version": "1"}'),
        (200, "text/plain", b""),
        (302, "text/html", b""),
        (404, "application/json", b'{"detail":"Not Found"}'),
    ],
    ids=[
        "page",
        "404",
        "403",
        "405",
        "plain-404",
        "plain-405",
        "empty-JSON",
        "list",
        "odd-map",
        "nothing",
        "login",
        "other-API",
    ],
)
def test_an_endpoint_that_is_no_aistore(status: int, content_type: str, body: bytes, step: int) -> None:
    """A web server, a login page, or any other API: said so, with its address, and nothing was stored or deleted."""
    with stranger(status, body, Content_Type=content_type) as server, fastmpu.Client(server.url) as client:
        with pytest.raises(NotAIStoreError, match=server.url):
            steps_of(client)[step]()
        assert {line.split()[0] for line in server.requests} == {"GET"}


def test_an_endpoint_that_speaks_no_http() -> None:
    """Something else listens there: a TransportError, not a traceback of a parser."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with fastmpu.Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client, pytest.raises(TransportError):
            client.cluster_map()
        thread.join()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("step", range(9))
def test_an_endpoint_that_is_not_reachable(step: int) -> None:
    """A ConnectionError that names the address; nothing was sent."""
    port = closed_port()
    with fastmpu.Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectFailedError, match=str(port)) as caught:
            steps_of(client)[step]()
        assert isinstance(caught.value, ConnectionError)
        assert not caught.value.sent


def test_a_gateway_without_its_server(cluster: mock.Cluster) -> None:
    """A bare 502 is a cluster that is not there now, not one that is none."""
    with stranger(502, WEB_PAGE, Content_Type="text/html") as server, fastmpu.Client(server.url) as client:
        with pytest.raises(UnavailableError) as caught:
            client.cluster_map()
        assert caught.value.node == ""


# --- no answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["get", "head", "put", "create"])
def test_answers_that_are_lost(tap: Interposer, obj: fastmpu.Object, kind: str) -> None:
    """`sent` says that the cluster may have acted; a timeout is a TimeoutError as well."""
    steps: dict[str, Callable[[], object]] = {
        "get": obj.get_reader().read_all,
        "head": obj.head,
        "put": lambda: obj.put(b"x"),
        "create": lambda: obj.multipart_upload().create(),
    }
    obj.put(b"there")
    tap.on(kind, lose_answer, direct=True, times=1)
    with pytest.raises(TransportError) as caught:
        steps[kind]()
    assert caught.value.sent
    assert isinstance(caught.value, ConnectionError)
    tap.on(kind, time_out, direct=True, times=1)
    with pytest.raises(ResponseTimeoutError) as late:
        steps[kind]()
    assert isinstance(late.value, TimeoutError)
    assert late.value.sent


def test_a_body_that_breaks_off(tap: Interposer, obj: fastmpu.Object) -> None:
    """Fewer bytes than announced is an error, never a short result: it is how a lost part shows (protocol H1)."""
    obj.put(b"x" * 1000)

    def short(request: httpx.Request, forward: Forward) -> httpx.Response:
        forward(request).read()

        class Broken(httpx.SyncByteStream):
            def __iter__(self) -> object:  # type: ignore[override]  # a generator
                yield b"x" * 400
                raise httpx.RemoteProtocolError("injected: the answer ended early")

        return httpx.Response(200, headers={"Content-Length": "1000"}, stream=Broken())

    tap.on("get", short, direct=True)
    with pytest.raises(TransportError, match="broke off after 400 of 1000 bytes"):
        obj.get_reader().read_all()


def test_an_answer_that_cannot_be_true(tap: Interposer, obj: fastmpu.Object) -> None:
    """HEAD with a nonsense size; a proxy that takes a PUT itself; a PUT answered with words."""
    tap.on("head", answer(200, Content_Length="many"), direct=True, times=1)
    with pytest.raises(NotAIStoreError, match="many"):
        obj.head()
    tap.on("locate", answer(200), times=1)
    with pytest.raises(NotAIStoreError, match="instead of naming a target"):
        obj.put(b"x")
    tap.on("put", answer(200, b"thanks"), times=1)
    with pytest.raises(NotAIStoreError, match="with a body"):
        obj.put(b"x")
    tap.on("bucket", lambda request, forward: respond(200, {"Ais-Bucket-Props": "{"}, b""), times=1)
    with pytest.raises(NotAIStoreError, match="not JSON"):
        obj.bucket.head()
    tap.on("bucket", answer(200, WEB_PAGE, Content_Type="text/html"), times=1)
    with pytest.raises(NotAIStoreError, match="not JSON"):
        list(obj.bucket.list())
