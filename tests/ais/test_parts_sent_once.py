"""A part is sent once. AIStore deletes one that is sent again, and answers 200 all the way (protocol H1, H2, H4)."""

from __future__ import annotations

import threading

import httpx
import pytest
from interposer import (
    Forward,
    Interposer,
    answer,
    gateway_error,
    lose_answer,
    meanwhile,
    refuse,
    respond,
    time_out,
    unreachable,
)

import fastmpu
from fastmpu import mock
from fastmpu.errors import (
    AmbiguousPartError,
    ChecksumRefusedError,
    ClusterError,
    ConnectFailedError,
    NotAIStoreError,
    PartRepeatedError,
    RateLimitedError,
    TransportError,
    UnavailableError,
    UploadLostError,
    UploadNotFoundError,
    UploadStateError,
)


@pytest.fixture
def mpu(obj: fastmpu.Object) -> fastmpu.MultipartUpload:
    return obj.multipart_upload().create()


def test_the_hazard_is_real(tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload) -> None:
    """What the guard is for: a middlebox sends a part twice; every answer is 200, and the object cannot be read."""

    def twice(request: httpx.Request, forward: Forward) -> httpx.Response:
        forward(request).read()
        return forward(request)

    tap.on("part", twice, part=2)
    for number, content in enumerate((b"one", b"two"), 1):
        assert mpu.add_part(number).put_content(content).status_code == 200
    assert mpu.complete().status_code == 200
    assert obj.head().size == 6
    with pytest.raises(TransportError, match="broke off"):
        obj.get_reader().read_all()


def test_a_stored_part_is_not_sent_again(tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload) -> None:
    """The second put_content is refused before any request, and the object is whole."""
    mpu.add_part(1).put_content(b"one")
    writer = mpu.add_part(1)
    with tap.silence(), pytest.raises(PartRepeatedError, match="H1") as caught:
        writer.put_content(b"one")
    assert (caught.value.part_number, caught.value.upload_id) == (1, mpu.upload_id)
    mpu.complete()
    assert obj.get_reader().read_all() == b"one"


def test_a_part_in_flight_is_not_sent_again(tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload) -> None:
    """Neither is one whose answer has not come yet, and complete waits for nobody: it refuses."""
    under_way, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        under_way.set()
        assert go_on.wait(30)

    tap.on("part", meanwhile(hold), part=1, times=1)
    mpu.add_part(2).put_content(b"two")
    first = threading.Thread(target=mpu.add_part(1).put_content, args=(b"one",))
    first.start()
    assert under_way.wait(30)
    try:
        with tap.silence():
            with pytest.raises(PartRepeatedError, match="in flight"):
                mpu.add_part(1).put_content(b"one")
            with pytest.raises(UploadStateError, match="1 are in flight"):
                mpu.complete()
        assert "1 in flight" in repr(mpu)
    finally:
        go_on.set()
        first.join()
    mpu.complete()
    assert obj.get_reader().read_all() == b"onetwo"


def test_abort_waits_for_parts_in_flight(cluster: mock.Cluster, tap: Interposer, mpu: fastmpu.MultipartUpload) -> None:
    """A part that ended after the abort would stay on the target's disk: the abort goes out after its answer."""
    under_way, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        under_way.set()
        assert go_on.wait(30)

    tap.on("part", meanwhile(hold), part=1, times=1)
    sender = threading.Thread(target=mpu.add_part(1).put_content, args=(b"x" * 1000,))
    aborter = threading.Thread(target=mpu.abort)
    sender.start()
    assert under_way.wait(30)
    aborter.start()
    aborter.join(0.1)
    assert aborter.is_alive()
    assert tap.count("abort") == 0
    go_on.set()
    sender.join()
    aborter.join()
    assert tap.count("abort") == 1
    assert cluster.stored_bytes == 0


@pytest.mark.parametrize(
    ("status", "tcode", "kind"),
    [
        (500, "", ClusterError),
        (429, "ErrRateLimitFrontend", RateLimitedError),
        (400, "ErrBadCksum", ChecksumRefusedError),
        (503, "", UnavailableError),
    ],
)
def test_after_an_answered_failure_the_number_is_free(
    tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload, status: int, tcode: str, kind: type[Exception]
) -> None:
    """AIStore's own answer proves that its handler is over: the same part may be put again, and counts."""
    tap.on("part", refuse(status, tcode), times=1)
    with pytest.raises(kind):
        mpu.add_part(1).put_content(b"one")
    assert mpu.parts == []
    mpu.add_part(1).put_content(b"one")
    mpu.complete()
    assert obj.get_reader().read_all() == b"one"
    assert tap.parts_sent() == [1, 1]


@pytest.mark.parametrize("kind", ["locate", "part"])
def test_what_was_never_sent_may_be_sent(
    tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload, kind: str
) -> None:
    """A connection that was refused has changed nothing: the number is free."""
    tap.on(kind, unreachable, times=1)
    with pytest.raises(ConnectFailedError) as caught:
        mpu.add_part(1).put_content(b"one")
    assert not caught.value.sent
    mpu.add_part(1).put_content(b"one")
    mpu.complete()
    assert obj.get_reader().read_all() == b"one"


@pytest.mark.parametrize("fault", [lose_answer, time_out, gateway_error], ids=["reset", "timeout", "bare 502"])
def test_a_lost_answer_makes_the_part_ambiguous(
    cluster: mock.Cluster, tap: Interposer, mpu: fastmpu.MultipartUpload, fault: object
) -> None:
    """Nobody knows whether it is stored: it is neither sent again nor completed, only aborted."""
    tap.on("part", fault, part=2)  # type: ignore[arg-type]  # mypy joins the three to object
    mpu.add_part(1).put_content(b"one")
    with pytest.raises(AmbiguousPartError, match="nobody knows") as caught:
        mpu.add_part(2).put_content(b"two")
    assert (caught.value.part_number, caught.value.upload_id) == (2, mpu.upload_id)
    assert caught.value.__cause__ is not None
    assert mpu.parts == [1]
    with tap.silence():
        with pytest.raises(PartRepeatedError, match="unknown fate"):
            mpu.add_part(2).put_content(b"two")
        with pytest.raises(UploadStateError, match="unknown fate"):
            mpu.complete()
    mpu.abort()
    assert cluster.stored_bytes == 0


def test_a_200_with_words_is_not_an_acknowledgement(tap: Interposer, mpu: fastmpu.MultipartUpload) -> None:
    """A captive portal's 200 with a page of its own says nothing about the part (aws-sdk-java-v2#7068)."""
    tap.on("part", answer(200, b"<html>log in first</html>", Content_Type="text/html"))
    with pytest.raises((AmbiguousPartError, NotAIStoreError)):
        mpu.add_part(1).put_content(b"one")
    with pytest.raises(PartRepeatedError), tap.silence():
        mpu.add_part(1).put_content(b"one")
    with pytest.raises(UploadStateError):
        mpu.complete()


class OtherTransport(httpx.BaseTransport):
    """Any transport of httpx, which knows nothing of fastmpu's request extensions; it loses one part's answer."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.parts_sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        target = bytes(request.extensions["target"])
        if b"partNumber=" in target and b"pid=" in target:
            self.parts_sent += 1
            response.close()
            raise httpx.ReadError("injected: connection reset by peer")
        return response

    def close(self) -> None:
        self._inner.close()


def test_a_lost_answer_is_ambiguous_on_any_transport(cluster: mock.Cluster) -> None:
    """`Client(transport=...)` takes any transport of httpx; one that keeps no record must not look as if it had sent
    nothing."""
    transport = OtherTransport()
    with fastmpu.Client(cluster.endpoint, transport=transport) as client:
        mpu = client.bucket("b").create().object("o").multipart_upload().create()
        with pytest.raises(AmbiguousPartError):
            mpu.add_part(1).put_content(b"one")
        with pytest.raises(PartRepeatedError):
            mpu.add_part(1).put_content(b"one")
    assert transport.parts_sent == 1


def test_an_unknown_upload_is_lost(tap: Interposer, mpu: fastmpu.MultipartUpload) -> None:
    """404 for the upload id: its target restarted, or somebody aborted it; the error says to start anew."""
    tap.on("part", refuse(404, "ErrNotFound", f"{mpu.upload_id} does not exist"))
    with pytest.raises(UploadLostError, match="start a new upload") as caught:
        mpu.add_part(1).put_content(b"one")
    assert isinstance(caught.value.__cause__, UploadNotFoundError)


def test_a_restarted_target_forgets_the_upload(cluster: mock.Cluster, mpu: fastmpu.MultipartUpload) -> None:
    """The same for real: uploads live in a target's memory (protocol 5.2)."""
    mpu.add_part(1).put_content(b"one")
    for target in cluster.targets:
        target.restart()
    with pytest.raises(UploadLostError):
        mpu.add_part(2).put_content(b"two")
    with pytest.raises(UploadLostError):
        mpu.complete()


def test_abort_of_an_upload_that_the_cluster_has_lost(
    cluster: mock.Cluster, tap: Interposer, mpu: fastmpu.MultipartUpload
) -> None:
    """An abort that finds nothing to abort has reached what was wanted."""
    for target in cluster.targets:
        target.restart()
    assert mpu.abort() is None
    assert tap.count("abort") == 1


def test_complete_is_sent_once(tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload) -> None:
    """Two at a time destroy the object (H5): after a lost answer a second complete is refused."""
    tap.on("complete", lose_answer, direct=True)
    mpu.add_part(1).put_content(b"one")
    with pytest.raises(TransportError):
        mpu.complete()
    with tap.silence(), pytest.raises(UploadStateError, match="complete was not answered"):
        mpu.complete()
    assert obj.get_reader().read_all() == b"one"


def test_complete_that_was_refused_may_be_tried_again(
    tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload
) -> None:
    """A 4xx of AIStore's own has done nothing."""
    tap.on("complete", refuse(403, message="not yours"), times=1)
    mpu.add_part(1).put_content(b"one")
    with pytest.raises(PermissionError):
        mpu.complete()
    assert mpu.complete().status_code == 200
    assert obj.get_reader().read_all() == b"one"


def test_a_complete_with_words_is_no_success(tap: Interposer, mpu: fastmpu.MultipartUpload) -> None:
    """200 with a body is not what AIStore sends, and is not believed."""
    tap.on("complete", answer(200, b"<Error>InternalError</Error>"), direct=True)
    mpu.add_part(1).put_content(b"one")
    with pytest.raises(NotAIStoreError, match="body"):
        mpu.complete()


def test_one_redirect_serves_all_parts(tap: Interposer, obj: fastmpu.Object, mpu: fastmpu.MultipartUpload) -> None:
    """Bodies go straight to the target; the proxy is asked once, with an empty body."""
    for number in (1, 2, 3):
        mpu.add_part(number).put_content(b"x" * 300_000)
    mpu.complete()
    assert tap.count("locate") == 1
    assert {wire.length for wire in tap.of("locate")} == {0}
    proxy = tap.of("create")[0].origin
    assert all(wire.origin != proxy for wire in tap.of("part"))
    assert max(wire.length for wire in tap.wires if wire.origin == proxy) < 1000


def test_one_redirect_serves_all_who_begin_at_once(cluster: mock.Cluster, obj: fastmpu.Object) -> None:
    """The cluster is asked before; if there is no answer, each asks for itself."""
    cluster.faults.add("latency(100, op=part, where=proxy)")
    obj.upload(b"x" * 80_000, part_size=10_000, max_concurrency=8, engine="thread")
    asked = [each for each in cluster.truth.attempts(where="proxy") if each.part is not None]
    assert len(asked) == 1
    cluster.truth.clear()
    cluster.faults.add("status(503, op=part, where=proxy)")
    receipt = obj.upload(b"y" * 80_000, part_size=10_000, max_concurrency=8, engine="thread")
    asked = [each for each in cluster.truth.attempts(where="proxy") if each.part is not None]
    assert [each.status for each in asked].count(503) == 1
    assert 2 <= len(asked) <= 1 + 8
    assert receipt.attempts == 8
    assert obj.get_reader().read_all() == b"y" * 80_000


def test_a_failed_abort_can_be_tried_again(
    cluster: mock.Cluster, tap: Interposer, mpu: fastmpu.MultipartUpload
) -> None:
    """An abort that was not answered leaves the upload as it was, so that it can be given up later."""
    tap.on("abort", unreachable, times=1)
    mpu.add_part(1).put_content(b"one")
    with pytest.raises(ConnectFailedError):
        mpu.abort()
    assert mpu.abort() is not None
    assert cluster.stored_bytes == 0


def test_a_failed_abort_does_not_hide_the_error(tap: Interposer, obj: fastmpu.Object) -> None:
    """In a `with` block the caller's exception comes out, with a note that names the upload that is left."""
    tap.on("abort", unreachable)
    with pytest.raises(ZeroDivisionError) as caught, obj.multipart_upload() as mpu:
        raise ZeroDivisionError
    if hasattr(caught.value, "__notes__"):  # Python 3.11
        assert str(mpu.upload_id) in caught.value.__notes__[0]


@pytest.mark.parametrize("text", [b"", b"two words", b"x" * 2000])
def test_an_answer_that_is_no_upload_id(tap: Interposer, obj: fastmpu.Object, text: bytes) -> None:
    """Without a sane id no part is ever sent: it would overwrite the whole object (H7). create can be tried again."""

    def id_(request: httpx.Request, forward: Forward) -> httpx.Response:
        forward(request).read()
        return respond(200, {}, text)

    tap.on("create", id_, direct=True, times=1)
    mpu = obj.multipart_upload()
    with pytest.raises(NotAIStoreError, match="upload id"):
        mpu.create()
    assert mpu.upload_id is None
    mpu.create().add_part(1).put_content(b"x")
    mpu.complete()
