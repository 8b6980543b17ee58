"""What is sent again, and what never is: only AIStore's own "no" proves that an attempt is over (design section 4)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from interposer import (
    Action,
    Forward,
    Interposer,
    answer,
    gateway_error,
    lose_answer,
    meanwhile,
    refuse,
    time_out,
    unreachable,
)

import fastmpu
from fastmpu import mock
from fastmpu.ais.failure import Failure
from fastmpu.errors import (
    AmbiguousPartError,
    AuthError,
    BucketNotFoundError,
    ChecksumRefusedError,
    ClusterError,
    ConnectFailedError,
    IntegrityError,
    OutOfSpaceError,
    PartError,
    RateLimitedError,
    RestartsExhaustedError,
    TransportError,
    UploadError,
    UploadLostError,
    UsageError,
)

DATA = random.Random(4).randbytes(50_000)
AT_ONCE = fastmpu.RetryPolicy(attempts=4, base=0.0)
ENGINES = ["inline", "thread"]


def send(obj: fastmpu.Object, engine: str, **options: Any) -> fastmpu.Receipt:
    """Five parts."""
    return obj.upload(DATA, part_size=10_000, engine=engine, **{"retry": AT_ONCE, **options})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "fault", [refuse(500), refuse(429, "ErrRateLimitFrontend"), refuse(503), refuse(400, "ErrBadCksum")]
)
@pytest.mark.parametrize("part", [1, 3, 5])
def test_a_refused_part_is_sent_again(
    obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str, fault: Action, part: int
) -> None:
    """An answered failure that may pass: again, whole, and the object is right, with no byte too many."""
    tap.on("part", fault, part=part, times=2)
    receipt = send(obj, engine)
    assert obj.get_reader().read_all() == DATA
    assert [one.attempts for one in receipt.parts] == [3 if number == part else 1 for number in range(1, 6)]
    assert receipt.attempts == 7
    assert tap.parts_sent().count(part) == 3
    assert len(tap.parts_sent()) == 7
    assert cluster.stored_bytes == len(DATA)


@pytest.mark.parametrize("engine", ENGINES)
def test_tries_are_bounded(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str) -> None:
    """After `attempts` tries: PartError with the last answer as its cause, and the upload is aborted."""
    tap.on("part", refuse(500, message="disk is tired"), part=2)
    with pytest.raises(PartError, match="disk is tired") as caught:
        send(obj, engine)
    assert (caught.value.part_number, caught.value.status) == (2, 500)
    assert caught.value.upload_id in tap.uploads_touched()
    assert isinstance(caught.value.__cause__, ClusterError)
    assert tap.parts_sent().count(2) == 4
    assert tap.count("abort") == 1
    assert tap.count("complete") == 0
    assert not obj.exists()


def test_an_error_says_how_often_was_tried(obj: fastmpu.Object, tap: Interposer) -> None:
    """`attempts` is the number of tries that were made, and the object's name is there (reliability invariant iv)."""
    tap.on("part", refuse(500), part=2)
    with pytest.raises(PartError) as caught:
        send(obj, "inline")
    assert caught.value.attempts == 4
    assert caught.value.object_name == obj.uri


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (refuse(401), AuthError),
        (refuse(403), AuthError),
        (refuse(507), OutOfSpaceError),
        (refuse(404, "ErrBckNotFound", 'bucket "ais://bucket" does not exist'), BucketNotFoundError),
        (refuse(400), ClusterError),
    ],
    ids=["401", "403", "507", "bucket gone", "400"],
)
def test_what_will_not_pass_is_not_tried_again(
    obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str, fault: Action, kind: type[Exception]
) -> None:
    """One attempt, then the upload is given up; the cause says why."""
    tap.on("part", fault, part=4)
    with pytest.raises(PartError) as caught:
        send(obj, engine)
    assert isinstance(caught.value.__cause__, kind)
    assert tap.parts_sent().count(4) == 1
    assert tap.count("abort") == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [answer(504), answer(503), answer(500, b"oops")])
def test_a_part_without_an_answer_starts_again_elsewhere(
    obj: fastmpu.Object, tap: Interposer, engine: str, fault: Action
) -> None:
    """A bare 503 of a gateway is no answer, and the gap probe misses the part: all is sent again, under a new upload
    id, and the old upload is aborted at the end."""
    tap.on("part", fault, part=3, times=1)
    receipt = send(obj, engine)
    assert obj.get_reader().read_all() == DATA
    assert (receipt.restarts, receipt.probes, receipt.verified) == (1, 1, "head")
    sent = [(wire.query["uploadId"], wire.part) for wire in tap.of("part")]
    assert len(set(sent)) == len(sent), "a part was sent twice under one upload id"
    assert (tap.count("abort"), tap.count("complete")) == (1, 2)  # one of the completes is the probe


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [lose_answer, time_out, gateway_error])
def test_a_stored_part_without_an_answer_is_found(
    obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str, fault: Action
) -> None:
    """The gap probe counts it: nothing is sent again, and the part is looked at after complete (H11)."""
    tap.on("part", fault, part=3, times=1)
    receipt = send(obj, engine)
    assert obj.get_reader().read_all() == DATA
    assert (receipt.restarts, receipt.probes, receipt.attempts) == (0, 1, 5)
    assert tap.parts_sent().count(3) == 1
    assert tap.count("get") >= 1
    assert tap.count("abort") == 0
    assert cluster.stored_bytes == len(DATA)


@pytest.mark.parametrize("engine", ENGINES)
def test_starting_again_has_an_end(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str) -> None:
    """Three upload ids, then a named error with the last failure as its cause; nothing is left."""
    tap.on("part", answer(504), part=3)
    with pytest.raises(RestartsExhaustedError) as caught:
        send(obj, engine)
    assert isinstance(caught.value.__cause__, AmbiguousPartError)
    assert tap.parts_sent().count(3) == 3
    assert len(tap.uploads_touched()) == 3
    assert tap.count("abort") == 3
    assert not obj.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lost_upload(obj: fastmpu.Object, tap: Interposer, nothing_left: None, engine: str) -> None:
    """404 for our id: nothing more under that id; a new one, at most twice."""
    tap.on("part", refuse(404, "ErrNotFound", "U does not exist"), part=3)
    with pytest.raises(RestartsExhaustedError, match="start a new upload") as caught:
        send(obj, engine)
    assert isinstance(caught.value.__cause__, UploadLostError)
    assert tap.parts_sent().count(3) == 3
    assert tap.count("complete") == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_target_restarts_in_between(
    obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str
) -> None:
    """For real: its memory of the upload is gone (protocol 5.2). The object is started again, and is right."""

    def restart() -> None:
        for target in cluster.targets:
            target.restart()

    tap.on("part", meanwhile(restart), part=1, times=1)
    receipt = send(obj, engine)
    assert receipt.restarts == 1
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_keep_leaves_the_parts(obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str) -> None:
    """on_error="keep": no abort; the upload id is in the error, and the upload can still be aborted by it."""
    tap.on("part", refuse(403), part=1)
    with pytest.raises(PartError) as caught:
        send(obj, engine, on_error="keep", max_concurrency=1)
    assert caught.value.upload_id
    assert tap.count("abort") == 0
    assert cluster.stored_bytes == 40_000
    assert not obj.exists()


def test_a_failed_abort_is_a_note(obj: fastmpu.Object, tap: Interposer) -> None:
    """What stopped the upload stays the error; that parts are left is said beside it."""
    tap.on("part", refuse(403), part=3)
    tap.on("abort", refuse(500))
    with pytest.raises(PartError) as caught:
        send(obj, "inline")
    if hasattr(caught.value, "__notes__"):  # Python 3.11
        assert "could not be aborted" in caught.value.__notes__[0]
        assert str(caught.value.upload_id) in caught.value.__notes__[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", ["status(code=503", "lost_response(how=reset"])
def test_an_abort_is_tried_again_on_fresh_connections(cluster: mock.Cluster, engine: str, what: str) -> None:
    """Others that are idle may be dead by now, though nothing tells: each would cost one of the three tries."""
    cluster.faults.add("status(op=part, part=5, code=403)")
    cluster.faults.add(f"{what}, op=abort, where=target, times=2)")
    with fastmpu.Client(cluster.endpoint) as client:
        obj = client.bucket("bucket").create().object("o")
        with pytest.raises(PartError) as caught:
            send(obj, engine)
    assert getattr(caught.value, "__notes__", []) == []
    seen = set()
    tries = []
    for record in cluster.truth.attempts():
        connection = (record.node, record.connection)
        if record.op == "abort":
            tries.append("kept" if connection in seen else "fresh")
        seen.add(connection)
    assert tries == ["kept", "fresh", "fresh"]


def test_a_create_that_fails_leaves_nothing(obj: fastmpu.Object, tap: Interposer, nothing_left: None) -> None:
    """There is nothing to abort then, and nothing is."""
    tap.on("create", refuse(403), times=1)
    with pytest.raises(AuthError):
        send(obj, "thread")
    tap.on("create", unreachable)
    with pytest.raises(ConnectFailedError):
        send(obj, "thread")
    assert (tap.count("abort"), tap.count("part")) == (0, 0)


def test_a_create_that_does_not_get_through_is_tried_again(obj: fastmpu.Object, tap: Interposer) -> None:
    """Nothing was processed; and a second create does no more harm than an upload that nobody uses."""
    tap.on("create", unreachable, times=2)
    send(obj, "thread")
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_complete_whose_answer_is_lost(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """The object itself is asked: it is there and right, so that is a success. complete went out once, no abort."""
    tap.on("complete", lose_answer, direct=True)
    receipt = send(obj, engine, verify="none")
    assert obj.get_reader().read_all() == DATA
    assert receipt.size == len(DATA)
    assert (tap.count("complete"), tap.count("abort")) == (1, 0)
    assert tap.count("head") >= 1


@pytest.mark.parametrize("fault", [time_out, gateway_error])
def test_complete_that_a_gateway_answers(obj: fastmpu.Object, tap: Interposer, fault: Action) -> None:
    """The same for a timeout, and for a 502 that is not AIStore's."""
    tap.on("complete", fault, direct=True)
    send(obj, "thread")
    assert obj.get_reader().read_all() == DATA
    assert (tap.count("complete"), tap.count("abort")) == (1, 0)


@pytest.mark.parametrize("old", [None, b"old object"])
def test_complete_that_never_arrived(obj: fastmpu.Object, tap: Interposer, old: bytes | None) -> None:
    """No proof, no success: never again under that upload id, which is ended first, so that it cannot come late."""
    if old:
        obj.put(old)
    tap.on("complete", answer(504), direct=True)
    with pytest.raises(RestartsExhaustedError):
        send(obj, "thread")
    completed = [wire.query["uploadId"] for wire in tap.of("complete") if wire.direct]
    assert len(set(completed)) == len(completed) == 3
    assert tap.count("abort") == 3
    assert (obj.get_reader().read_all() if old else None) == old


def test_complete_whose_answer_is_lost_without_checksums(obj: fastmpu.Object, tap: Interposer) -> None:
    """checksum="none" leaves nothing to prove it with: it is uploaded again, after the first upload was ended."""
    tap.on("complete", lose_answer, direct=True, times=1)
    assert send(obj, "thread", checksum="none").restarts == 1
    assert (tap.count("complete"), tap.count("abort")) == (2, 1)
    assert obj.get_reader().read_all() == DATA


def test_complete_that_cannot_be_ended(obj: fastmpu.Object, tap: Interposer) -> None:
    """Neither confirmed nor ended: it may still be carried out and replace what comes after it. So nothing does."""
    tap.on("complete", answer(504), direct=True)
    tap.on("abort", answer(504))
    with pytest.raises(UploadError, match="may still be carried out") as caught:
        send(obj, "thread")
    assert caught.value.upload_id in tap.uploads_touched()
    assert len(tap.uploads_touched()) == 1
    assert tap.count("complete") == 1


def test_complete_that_was_done_at_the_last_moment(obj: fastmpu.Object, tap: Interposer) -> None:
    """It is carried out after the last look at the object: the abort meets no upload, and one more look finds it."""
    held: list[tuple[httpx.Request, Forward]] = []

    def hold(request: httpx.Request, forward: Forward) -> httpx.Response:
        held.append((request, forward))
        request.extensions["exchange"].head_sent = True
        raise httpx.ReadTimeout("injected: no answer in time")

    def late() -> None:
        request, forward = held.pop()
        request.extensions.pop("cancel", None)
        forward(request).read()

    tap.on("complete", hold, direct=True)
    tap.on("abort", meanwhile(late), direct=True)
    receipt = send(obj, "thread")
    assert (receipt.restarts, receipt.verified) == (0, "head")
    assert obj.get_reader().read_all() == DATA


def test_complete_that_is_refused(obj: fastmpu.Object, tap: Interposer, nothing_left: None) -> None:
    """AIStore's own "no": the upload is aborted, the error keeps the cause."""
    tap.on("complete", refuse(400, message="nil parts list"), direct=True)
    with pytest.raises(UploadError, match="nil parts list") as caught:
        send(obj, "thread")
    assert isinstance(caught.value.__cause__, ClusterError)
    assert (tap.count("complete"), tap.count("abort")) == (1, 1)


def test_complete_of_a_dead_upload(obj: fastmpu.Object, tap: Interposer) -> None:
    """404 `failed to finalize` (S6): the upload is lost; not repeated, and the old object's danger is told (H6)."""
    tap.on("complete", refuse(404, "ErrFailedTo", "failed to finalize"), direct=True)
    with pytest.raises(RestartsExhaustedError, match="older object") as caught:
        send(obj, "thread")
    assert isinstance(caught.value.__cause__, UploadLostError)
    assert tap.count("complete") == 3
    assert tap.count("abort") == 3


@pytest.mark.parametrize("part_size", [10_000, 100_000], ids=["parts", "whole"])
@pytest.mark.parametrize("change", [b"", b"x", DATA[:-1] + bytes([DATA[-1] ^ 1])], ids=["empty", "short", "same size"])
def test_an_object_that_is_not_what_was_sent(
    obj: fastmpu.Object, tap: Interposer, part_size: int, change: bytes
) -> None:
    """HEAD shows another size or sum: IntegrityError with both, never a receipt."""
    other = fastmpu.Client(str(obj.bucket.client.endpoint.origin))  # on another machine, as far as notes go

    def overwrite() -> None:
        other.bucket("bucket").object(obj.name).upload(
            change, part_size=max(1, len(change) // 2), verify="none", journal="off"
        )

    tap.on("head", meanwhile(overwrite), times=1)
    with other, pytest.raises(IntegrityError) as caught:
        obj.upload(DATA, part_size=part_size)
    assert str(len(DATA)) in caught.value.expected
    assert caught.value.found
    assert caught.value.object_name == obj.uri


def test_an_object_that_is_gone_again(obj: fastmpu.Object, tap: Interposer) -> None:
    """Somebody deleted it before the proof: an IntegrityError, with the 404 as its cause."""
    tap.on("head", refuse(404, "ErrNotFound", "does not exist"))
    with pytest.raises(IntegrityError, match="no object at all"):
        send(obj, "thread")


def test_reading_back_finds_what_head_cannot(obj: fastmpu.Object, tap: Interposer) -> None:
    """H11: a middlebox sends a part twice and so deletes it (H1); HEAD is content, verify="read" is not."""

    def twice(request: httpx.Request, forward: Forward) -> httpx.Response:
        forward(request).read()
        return forward(request)

    tap.on("part", twice, part=3)
    assert send(obj, "inline", verify="head").verified == "head"
    with pytest.raises(IntegrityError, match="breaks off"):
        send(obj, "inline", verify="read")


# --- whole objects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [refuse(500), refuse(429), refuse(503), refuse(500, "ErrBadCksum")])
@pytest.mark.parametrize("at", ["locate", "put"])
def test_a_refused_put_is_sent_again(obj: fastmpu.Object, tap: Interposer, fault: Action, at: str) -> None:
    """From its start, whoever refused it."""
    tap.on(at, fault, times=2)
    receipt = obj.upload(DATA, retry=AT_ONCE)
    assert obj.get_reader().read_all() == DATA
    assert receipt.attempts == 3
    assert tap.count("put") == (3 if at == "put" else 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_tries_of_a_put_are_bounded(obj: fastmpu.Object, tap: Interposer, engine: str, nothing_left: None) -> None:
    tap.on("put", refuse(429))
    with pytest.raises(RateLimitedError):
        obj.upload(DATA, retry=AT_ONCE, engine=engine)
    assert tap.count("put") == 4
    assert not obj.exists()


def test_a_put_whose_answer_is_lost(obj: fastmpu.Object, tap: Interposer) -> None:
    """A plain PUT may be repeated freely (measured: 200 of 200 survived); but no receipt without an answer."""
    tap.on("put", lose_answer, times=1)
    assert obj.upload(DATA, retry=AT_ONCE).attempts == 2
    assert obj.get_reader().read_all() == DATA
    tap.on("put", lose_answer)
    with pytest.raises(TransportError) as caught:
        obj.upload(DATA, retry=AT_ONCE)
    assert caught.value.sent


def test_damage_on_the_way_of_a_put_is_found(obj: fastmpu.Object, tap: Interposer, nothing_left: None) -> None:
    """The cluster checks the sum sent along before it stores."""
    tap.on("put", refuse(500, "ErrBadCksum", "BAD DATA CHECKSUM"))
    with pytest.raises(ChecksumRefusedError):
        obj.upload(DATA, retry=AT_ONCE)


def test_a_file_is_sent_again_from_its_start(obj: fastmpu.Object, tap: Interposer, tmp_path: Path) -> None:
    """yas3fs#59: a retried part carries its own bytes, and its checksum counts once."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    for part in range(1, 6):
        tap.on("part", refuse(500), part=part, times=part - 1)
    receipt = obj.upload(path, part_size=10_000, retry=fastmpu.RetryPolicy(attempts=5, base=0))
    assert [part.attempts for part in receipt.parts] == [1, 2, 3, 4, 5]
    assert obj.get_reader().read_all() == DATA
    assert receipt.verified == "head"


# --- the policy -------------------------------------------------------------------------------------------------------


def test_waits_double_up_to_the_cap_with_jitter() -> None:
    """Pure: it is asked, and never sleeps."""
    policy = fastmpu.RetryPolicy(attempts=6, base=1.0, cap=4.0)
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0), (5, 4.0)):
        waits = [policy.delay(attempt, Failure.PASSING) for _ in range(200)]
        assert all(wait is not None and 0 <= wait <= most for wait in waits)
        assert max(wait or 0 for wait in waits) > most / 2
    assert policy.delay(6, Failure.PASSING) is None
    assert policy.delay(1, Failure.NEVER_PROCESSED) is not None
    for failure in (Failure.UNKNOWN, Failure.UPLOAD_LOST, Failure.FATAL):
        assert policy.delay(1, failure) is None
    assert policy.delay(1, Failure.PASSING, retry_after=3.0) == 3.0
    assert policy.delay(1, Failure.PASSING, retry_after=9e9) == 120.0


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"base": -1.0}, {"base": 5.0, "cap": 1.0}])
def test_a_policy_that_makes_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="attempts >= 1"):
        fastmpu.RetryPolicy(**bad)
