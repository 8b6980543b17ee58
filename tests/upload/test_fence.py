"""What became of a part without an answer: the cluster is asked, and what it does not prove is never assumed."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from interposer import (
    Action,
    Forward,
    Interposer,
    afterwards,
    answer,
    gateway_error,
    lose_answer,
    refuse,
    time_out,
    unreachable,
    within_body,
)

import fastmpu
from fastmpu import mock
from fastmpu.errors import (
    Cancelled,
    ClusterError,
    IntegrityError,
    ObjectNotFoundError,
    PartError,
    RestartsExhaustedError,
    SourceChangedError,
    TransportError,
)

DATA = random.Random(9).randbytes(50_000)
AT_ONCE = fastmpu.RetryPolicy(attempts=3, base=0.0)
ENGINES = ["inline", "thread"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, shorter."""
    monkeypatch.setattr("fastmpu._upload.fence.NETWORK_FENCE", 0.01)
    wait = fastmpu._upload.cancel.CancelFlag.wait
    monkeypatch.setattr("fastmpu._upload.cancel.CancelFlag.wait", lambda self, s: wait(self, min(s, 0.02)))


def send(obj: fastmpu.Object, engine: str = "thread", **options: Any) -> fastmpu.Receipt:
    """Five parts."""
    return obj.upload(DATA, **{"part_size": 10_000, "engine": engine, "retry": AT_ONCE, **options})


def reset(request: httpx.Request, forward: Forward) -> httpx.Response:
    """The connection ends before the target has seen the part."""
    request.extensions["exchange"].head_sent = True
    raise httpx.ReadError("injected: connection reset by peer")


def silence(request: httpx.Request, forward: Forward) -> httpx.Response:
    """Neither the target's handler nor anybody else is heard of."""
    request.extensions["exchange"].head_sent = True
    raise httpx.ReadTimeout("injected: no answer in time")


def probed(tap: Interposer, action: Action, times: int = 10**9) -> None:
    """`action` with the probes, which are the first completes."""
    tap.on("complete", action, direct=True, times=times)


def gaps(message: str) -> Action:
    return refuse(400, message=message)


def sent_twice(tap: Interposer) -> list[tuple[str, int | None]]:
    """Parts that went out more than once under one upload id."""
    counts = Counter((wire.query["uploadId"], wire.part) for wire in tap.of("part"))
    return sorted(which for which, count in counts.items() if count > 1)


# --- the answer is missing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_two_unknown_parts_that_are_both_stored(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """The count tells: nothing is sent again, and both are looked at after complete."""
    for part in (2, 4):
        tap.on("part", lose_answer, part=part, times=1)
    receipt = send(obj, engine)
    assert (receipt.restarts, receipt.attempts) == (0, 5)
    assert receipt.probes in (1, 2)  # together, if both were in flight when the first was lost
    assert tap.count("get") == 2
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("fence", ["answer", "network"])
def test_two_unknown_parts_of_which_one_is_stored(obj: fastmpu.Object, tap: Interposer, fence: str) -> None:
    """Which of them, the count does not say: all is sent again, under a new upload id."""
    both = threading.Barrier(2)

    def stored(request: httpx.Request, forward: Forward) -> httpx.Response:
        both.wait(10)
        return lose_answer(request, forward)

    def not_stored(request: httpx.Request, forward: Forward) -> httpx.Response:
        both.wait(10)
        return reset(request, forward)

    tap.on("part", stored, part=2, times=1)
    tap.on("part", not_stored, part=3, times=1)
    receipt = send(obj, fence=fence)
    assert (receipt.restarts, receipt.probes) == (1, 1)
    assert sent_twice(tap) == []
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "said",
    [
        gaps("parts, who counts them"),
        gaps("partial completion is not allowed: requested 0 parts, have 5 or so"),
        gaps("partial completion is not allowed: requested 1 parts, have 2"),
        gaps("chunk at (1) has invalid number x (count=2)"),
        refuse(500, message="no chunks"),
        refuse(400, message="no chunks", node=""),
        answer(200),
        answer(404, b"no such page"),
    ],
    ids=["words", "trailing", "not ours", "no number", "500", "gateway", "200", "404"],
)
def test_a_probe_that_is_not_understood(obj: fastmpu.Object, tap: Interposer, engine: str, said: Action) -> None:
    """It is not guessed at: a new upload id, though the part was stored."""
    tap.on("part", lose_answer, part=3, times=1)
    probed(tap, said, times=1)
    receipt = send(obj, engine)
    assert (receipt.restarts, receipt.probes) == (1, 1)
    assert sent_twice(tap) == []
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("count", [6, 100, 9999])
def test_a_cluster_that_claims_more_than_was_sent(obj: fastmpu.Object, tap: Interposer, count: int) -> None:
    """google-cloud-cpp#2980: that is no reason to skip a part; start again."""
    tap.on("part", lose_answer, part=3, times=1)
    probed(tap, gaps(f"partial completion is not allowed: requested 0 parts, have {count}"), times=1)
    receipt = send(obj)
    assert receipt.restarts == 1
    assert Counter(tap.parts_sent())[3] == 2
    assert obj.get_reader().read_all() == DATA


def test_a_cluster_that_claims_less_than_it_acknowledged(obj: fastmpu.Object, tap: Interposer) -> None:
    """It has lost what it said it had: nothing of that upload is of use."""
    tap.on("part", lose_answer, part=1, times=1)
    probed(tap, gaps("no chunks"), times=1)
    assert send(obj).restarts == 1
    assert sent_twice(tap) == []


@pytest.mark.parametrize(("lost", "restarts"), [(1, 0), (2, 0), (3, 1)])
@pytest.mark.parametrize("fault", [unreachable, lose_answer, time_out])
def test_a_probe_without_an_answer_is_repeated(
    obj: fastmpu.Object, tap: Interposer, fault: Action, lost: int, restarts: int
) -> None:
    """It changes nothing, so it may be: three times, then a new upload id."""
    tap.on("part", lose_answer, part=3, times=1)
    probed(tap, fault, times=lost)
    assert send(obj).restarts == restarts
    assert obj.get_reader().read_all() == DATA


def test_nothing_is_sent_while_a_parts_fate_is_unknown(obj: fastmpu.Object, tap: Interposer) -> None:
    """The probe comes next; with one part in flight at a time that can be seen on the wire."""
    tap.on("part", lose_answer, part=3, times=1)
    send(obj, "inline")
    kinds = [(wire.kind, wire.part) for wire in tap.wires if wire.kind in ("part", "complete")]
    at = kinds.index(("part", 3))
    assert kinds[at + 1] == ("complete", None)
    assert ("part", 4) in kinds[at + 2 :]


def test_old_uploads_are_aborted_at_the_end(obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster) -> None:
    """Their late attempts get the most time to end, and nothing of them is left."""
    tap.on("part", answer(504), part=3, times=2)
    assert send(obj).restarts == 2
    kinds = [wire.kind for wire in tap.wires if wire.direct]
    assert kinds.count("abort") == 2
    assert kinds.index("abort") > len(kinds) - 1 - kinds[::-1].index("complete")
    assert cluster.stored_bytes == len(DATA)


def test_restarts_are_bounded_and_leave_nothing(obj: fastmpu.Object, tap: Interposer, nothing_left: None) -> None:
    """Three upload ids, three aborts, one named error."""
    tap.on("part", silence, part=2)
    with pytest.raises(RestartsExhaustedError, match="3 uploads"):
        send(obj)
    assert tap.count("abort") == 3


def test_old_uploads_that_cannot_be_aborted_are_named(obj: fastmpu.Object, tap: Interposer) -> None:
    """In notes of the error, each with its upload id; three tries each."""
    tap.on("part", silence, part=2)
    tap.on("abort", refuse(500), direct=True)
    with pytest.raises(RestartsExhaustedError) as caught:
        send(obj)
    assert tap.count("abort") == 9
    if hasattr(caught.value, "add_note"):  # Python 3.11
        notes = " ".join(getattr(caught.value, "__notes__", ()))
        assert all(upload_id in notes for upload_id in tap.uploads_touched())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [lose_answer, time_out, gateway_error, unreachable])
@pytest.mark.parametrize("kind", ["create", "locate"])
def test_questions_to_the_proxy_may_be_repeated(
    obj: fastmpu.Object, tap: Interposer, engine: str, fault: Action, kind: str
) -> None:
    """A lost answer to create, or to where parts are to go, leaves no part in doubt: no restart, no probe."""
    tap.on(kind, fault, times=1)
    receipt = send(obj, engine)
    assert (receipt.restarts, receipt.probes, receipt.attempts) == (0, 0, 5)
    assert sent_twice(tap) == []
    assert obj.get_reader().read_all() == DATA


# --- fence="network" --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_on_a_plain_network_the_end_of_a_connection_counts(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """The part that the probe shows missing is sent again under the same id, and looked at after complete."""
    tap.on("part", reset, part=3, times=1)
    receipt = send(obj, engine, fence="network")
    assert (receipt.restarts, receipt.attempts) == (0, 6)
    assert [part for _, part in sent_twice(tap)] == [3]
    ranges = tap.count("get")
    assert ranges == 1
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_on_a_plain_network_a_part_is_not_sent_for_ever(
    obj: fastmpu.Object, tap: Interposer, cluster: mock.Cluster, engine: str
) -> None:
    """A connection that breaks at each attempt: as many as the policy has, then a named error, and an abort."""
    tap.on("part", reset, part=3)
    with pytest.raises(PartError, match="part 3 failed after 2 attempts, none of which was answered") as caught:
        send(obj, engine, fence="network", retry=fastmpu.RetryPolicy(attempts=2, base=0.001))
    assert (caught.value.part_number, caught.value.attempts) == (3, 2)
    assert tap.parts_sent().count(3) == 2
    assert tap.count("abort") == 1
    assert cluster.stored_bytes == 0


@pytest.mark.parametrize("fault", [silence, answer(504), answer(502, b"<html>")], ids=["silence", "504", "502"])
def test_on_a_plain_network_silence_and_gateways_do_not_count(
    obj: fastmpu.Object, tap: Interposer, fault: Action
) -> None:
    """The target's handler may live on."""
    tap.on("part", fault, part=3, times=1)
    assert send(obj, fence="network").restarts == 1
    assert sent_twice(tap) == []


def test_on_a_plain_network_the_count_has_to_stay(obj: fastmpu.Object, tap: Interposer) -> None:
    """A part that turns up between two probes was alive: start again."""
    tap.on("part", reset, part=1, times=1)  # the last one to start: four are acknowledged
    probed(tap, gaps("chunk at (0) has invalid number 2 (count=4)"), times=1)
    probed(tap, gaps("partial completion is not allowed: requested 0 parts, have 5"), times=1)
    receipt = send(obj, "inline", fence="network")
    assert receipt.restarts == 1
    assert sent_twice(tap) == []


# --- looking at single parts ------------------------------------------------------------------------------------------


def twice(request: httpx.Request, forward: Forward) -> httpx.Response:
    """A middlebox sends a part again, and so deletes it (H1); both answers are 200."""
    forward(request).read()
    return forward(request)


def ranged(tap: Interposer) -> int:
    return sum(wire.direct for wire in tap.of("get"))


@pytest.mark.parametrize("part", [2, 5])
def test_a_part_of_several_attempts_is_looked_at(obj: fastmpu.Object, tap: Interposer, part: int) -> None:
    """One GET of one byte, for that part alone."""
    tap.on("part", refuse(500), part=part, times=1)
    assert send(obj).verified == "head"
    assert ranged(tap) == 1
    send(obj)
    assert ranged(tap) == 1, "without a second attempt there is nothing to look at"


def test_a_hole_is_found_and_filled(obj: fastmpu.Object, tap: Interposer) -> None:
    """The object is ours, by its size and parts: it is deleted, and uploaded once more."""
    tap.on("part", refuse(500), part=3, times=1)
    tap.on("part", twice, part=3, times=1)
    receipt = send(obj)
    assert tap.count("delete") == 1
    assert len({wire.query["uploadId"] for wire in tap.of("part")}) == 2
    assert receipt.attempts == 11
    assert obj.get_reader().read_all() == DATA


def test_what_a_damaged_object_replaced_is_told_if_the_second_try_is_stopped(
    obj: fastmpu.Object, tap: Interposer, caplog: pytest.LogCaptureFixture
) -> None:
    """The object from before is gone: replaced by the damaged one, which was deleted. `Cancelled` says so."""
    obj.put(b"what was there before")
    tap.on("part", refuse(500), part=3, times=1)
    tap.on("part", twice, part=3, times=1)
    stop = threading.Event()

    def stop_in_the_second_try(_: fastmpu.Progress) -> None:
        if tap.count("delete"):
            stop.set()

    with pytest.raises(Cancelled) as caught:
        send(obj, progress=stop_in_the_second_try, cancel=stop)
    with pytest.raises(ObjectNotFoundError):
        obj.head()
    told = "what it had replaced is gone"
    assert told in caplog.text
    if sys.version_info >= (3, 11):
        assert told in "".join(caught.value.__notes__)


@pytest.mark.parametrize("action", [unreachable, silence], ids=["unreachable", "silent"])
def test_an_object_that_cannot_be_looked_at_is_left(obj: fastmpu.Object, tap: Interposer, action: Action) -> None:
    """A cluster that does not serve the reading back has not shown a damaged object: it must not be deleted."""
    tap.on("get", action)
    with pytest.raises(TransportError):
        send(obj, verify="read")
    assert tap.count("delete") == 0
    assert obj.head().size == len(DATA)


def test_a_hole_that_comes_back_is_an_error(obj: fastmpu.Object, tap: Interposer) -> None:
    """Once more, not for ever; the error names the part, and what was expected there."""
    tap.on("part", twice, part=3)
    with pytest.raises(IntegrityError, match="part 3 cannot be read back") as caught:
        send(obj, verify="probe")
    assert tap.count("delete") == 2  # no damaged object stays
    assert tap.count("complete") == 2
    assert caught.value.upload_id
    assert caught.value.found == "a hole"


def test_somebody_elses_object_is_not_deleted(obj: fastmpu.Object, tap: Interposer) -> None:
    """Another writer was faster: that is an error, and the other's object stays."""
    other = fastmpu.Client(str(obj.bucket.client.endpoint.origin))
    theirs = bytes(reversed(DATA))
    tap.on("complete", afterwards(lambda: other.bucket("bucket").object(obj.name).put(theirs)), direct=True)
    with other, pytest.raises(IntegrityError):
        send(obj)
    assert tap.count("delete") == 0
    assert obj.get_reader().read_all() == theirs


@pytest.mark.parametrize("engine", ENGINES)
def test_probing_looks_at_every_part(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """verify="probe": five parts, five bytes."""
    assert send(obj, engine, verify="probe").verified == "probe"
    assert ranged(tap) == 5


def test_probing_parts_of_one_byte(obj: fastmpu.Object, tap: Interposer) -> None:
    """There is no second byte to ask for."""
    assert obj.upload(b"abc", part_size=1, multipart_threshold=1, verify="probe").verified == "probe"
    assert ranged(tap) == 3


def test_an_old_upload_is_looked_at_part_by_part(
    obj: fastmpu.Object, tap: Interposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space cleanup may have taken parts of an upload that is older than 90 minutes (protocol 5.4)."""
    monkeypatch.setattr("fastmpu._upload.pipeline.OLD_UPLOAD", -1.0)
    assert send(obj).verified == "head"
    assert ranged(tap) == 5


def test_verify_none_looks_at_nothing(obj: fastmpu.Object, tap: Interposer) -> None:
    tap.on("part", refuse(500), part=3, times=1)
    assert send(obj, verify="none").verified == "none"
    assert (ranged(tap), tap.count("head")) == (0, 0)


@pytest.mark.parametrize("fault", [unreachable, refuse(503), lose_answer, time_out])
@pytest.mark.parametrize("kind", ["head", "get"])
def test_looking_is_tried_again(obj: fastmpu.Object, tap: Interposer, fault: Action, kind: str) -> None:
    """A network that breaks while we look is no hole: nothing is deleted, nothing is sent again."""
    tap.on(kind, fault, times=2)
    assert send(obj, verify="probe").verified == "probe"
    assert tap.count("delete") == 0
    assert len(tap.parts_sent()) == 5


@pytest.mark.parametrize("fault", [unreachable, refuse(503), time_out])
def test_a_cluster_that_cannot_be_asked_is_no_hole(obj: fastmpu.Object, tap: Interposer, fault: Action) -> None:
    """The object is there, and unproved: the network's own error, and nothing is deleted."""
    tap.on("get", fault)
    with pytest.raises((TransportError, ClusterError)):
        send(obj, verify="probe")
    assert (tap.count("delete"), tap.count("complete")) == (0, 1)


# --- checked parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_each_part_with_its_sha256(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """A part that is damaged on its way is refused by the target, stored nowhere, and sent again (protocol 5.3)."""
    sums: list[str] = []

    def damage(request: httpx.Request, forward: Forward) -> httpx.Response:
        sums.append(request.headers["x-amz-content-sha256"])
        length = int(request.headers["content-length"])
        request.stream = httpx.ByteStream(b"x" * length)
        return forward(request)

    tap.on("part", damage, part=4, times=1)
    receipt = send(obj, engine, part_checksum="sha256")
    assert [part.attempts for part in receipt.parts] == [1, 1, 1, 2, 1]
    assert len(sums[0]) == 64
    assert receipt.restarts == 0
    assert obj.get_reader().read_all() == DATA


def test_without_it_damage_shows_at_the_end(obj: fastmpu.Object, tap: Interposer) -> None:
    """HEAD's checksum differs; our own object is deleted, and uploaded once more."""

    def damage(request: httpx.Request, forward: Forward) -> httpx.Response:
        request.stream = httpx.ByteStream(b"x" * int(request.headers["content-length"]))
        return forward(request)

    tap.on("part", damage, part=4, times=1)
    receipt = send(obj)
    assert (tap.count("delete"), receipt.attempts) == (1, 10)
    assert obj.get_reader().read_all() == DATA


# --- growing files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("read", ["pread", "mmap", "auto"])
@pytest.mark.parametrize("part_size", [10_000, 100_000], ids=["parts", "whole"])
def test_the_prefix_of_a_growing_file(
    obj: fastmpu.Object, tap: Interposer, tmp_path: Path, engine: str, read: str, part_size: int
) -> None:
    """on_change="prefix": what the log had when it was opened; the default refuses."""
    path = tmp_path / "log"
    path.write_bytes(DATA)

    def grow() -> None:
        with path.open("ab", buffering=0) as log:
            log.write(b"one more line\n")

    kind = "part" if part_size == 10_000 else "put"
    tap.on(kind, within_body(grow))
    receipt = obj.upload(path, part_size=part_size, engine=engine, read=read, on_change="prefix", retry=AT_ONCE)
    assert receipt.size == len(DATA)
    assert obj.get_reader().read_all() == DATA
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size=part_size, engine=engine, read=read, retry=AT_ONCE)


def test_a_prefix_that_shrinks_is_refused(obj: fastmpu.Object, tap: Interposer, tmp_path: Path) -> None:
    """Only growth is fine."""
    path = tmp_path / "log"
    path.write_bytes(DATA)
    tap.on("part", within_body(lambda: path.write_bytes(DATA[:100])), part=4)
    with pytest.raises(SourceChangedError):
        obj.upload(path, part_size=10_000, read="pread", on_change="prefix", retry=AT_ONCE)
    assert not obj.exists()
