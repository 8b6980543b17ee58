"""The truth log: what it tells of attempts, what it holds against clients, and that it stays small."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import crc32c
import pytest
from talk import Call, Talk, Upload, eventually

from fastmpu.mock import Cluster
from fastmpu.mock.operations import Operation
from fastmpu.mock.truth import Record, Truth

ONE, TWO = b"1" * 1000, b"2" * 1500


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(targets=2, closing_delay=0.05) as cluster:
        yield cluster


@pytest.fixture
def talk(cluster: Cluster) -> Iterator[Talk]:
    assert cluster.truth.wait_until_quiet()
    cluster.truth.clear()
    yield Talk(cluster)
    cluster.faults.clear()


def started(talk: Talk, name: str = "x") -> Upload:
    """An upload whose part 1 is stored."""
    upload = talk.upload(name)
    assert upload.part(1, ONE).status == 200
    return upload


def outcomes(talk: Talk, **wanted: object) -> list[str]:
    assert talk.cluster.truth.wait_until_quiet()
    return [record.outcome for record in talk.cluster.truth.attempts(**wanted)]


def test_a_good_upload_leaves_a_clean_log(talk: Talk) -> None:
    upload = started(talk)
    assert upload.part(2, TWO).status == 200
    assert upload.complete([]).status == 400
    assert upload.complete([1, 2]).status == 200
    assert talk.head("x").status == 200
    truth = talk.cluster.truth
    assert truth.violations() == []
    assert [(record.op, record.outcome) for record in truth.attempts(name="x")] == [
        ("create", "done"),
        ("part", "stored"),
        ("part", "stored"),
        ("probe", "refused"),
        ("complete", "stored"),
        ("head", "done"),
    ]
    (part,) = truth.attempts(part=2, upload_id=upload.id)
    assert (part.announced, part.received, part.status, part.answer) == (1500, 1500, 200, "sent")
    assert part.crc32c == f"{crc32c.crc32c(TWO):08x}"
    assert part.where == "target"
    assert part.node in {f"t[{target.id}]" for target in talk.cluster.targets}
    assert part.ended is not None
    assert part.started < part.ended < time.monotonic()


def test_redirects_are_there_for_those_who_ask(talk: Talk) -> None:
    assert talk.put("x", ONE).status == 200
    truth = talk.cluster.truth
    assert [record.op for record in truth.attempts(name="x")] == ["put"]
    (redirect,) = truth.attempts(op="redirect")
    assert (redirect.where, redirect.outcome, redirect.status, redirect.name) == ("proxy", "redirected", 307, "x")
    assert truth.attempts(where="proxy")[-1] is redirect


def test_connections_are_counted_and_shared_by_what_uses_them(talk: Talk) -> None:
    to, marker = talk.owner("x")
    for _ in range(2):
        with Call(to) as call:
            for _ in range(2):
                assert call.ask("PUT", talk.path("x", marker), ONE).status == 200
    a, b, c, d = (record.connection for record in talk.cluster.truth.attempts(op="put"))
    assert a == b < c == d


def test_json_lines_hold_the_same(talk: Talk) -> None:
    started(talk, "näme")
    lines = [json.loads(line) for line in talk.cluster.truth.to_json_lines(op="part").splitlines()]
    assert [(line["name"], line["outcome"]) for line in lines] == [("näme", "stored")]
    assert set(lines[0]) >= {"node", "connection", "started", "ended", "crc32c", "faults"}


def test_a_field_that_no_record_has(talk: Talk) -> None:
    with pytest.raises(ValueError, match="a record has no 'prat'; it has n, node, where"):
        talk.cluster.truth.attempts(prat=3)


def test_a_part_stored_twice(talk: Talk) -> None:
    upload = started(talk)
    assert upload.part(1, ONE).status == 200
    assert outcomes(talk, part=1) == ["stored", "unlinked-by-repeat"]
    (sentence,) = talk.cluster.truth.violations()
    assert sentence.startswith(f"part 1 of upload {upload.id} (x) was stored twice")


def test_a_refused_attempt_may_be_repeated(talk: Talk) -> None:
    upload = started(talk)
    assert upload.part(2, TWO, {"x-amz-content-sha256": "wrong"}).status == 400
    assert upload.part(2, TWO).status == 200
    assert upload.complete([1, 2]).status == 200
    assert outcomes(talk, part=2) == ["refused", "stored"]
    assert talk.cluster.truth.violations() == []


def test_a_broken_attempt(talk: Talk) -> None:
    upload = started(talk)
    with upload.part_in_flight(2, 1000) as call:
        call.send(b"x" * 300)
        call.half_close()
        assert call.reply().status == 500
    (record,) = talk.cluster.truth.attempts(part=2)
    assert (record.outcome, record.received, record.status) == ("broken", 300, 500)
    assert record.crc32c == f"{crc32c.crc32c(b'x' * 300):08x}"
    assert talk.cluster.truth.violations() == []


@pytest.mark.parametrize("ending", ["fails", "succeeds"])
def test_everything_that_a_zombie_makes_wrong(talk: Talk, ending: str) -> None:
    upload = started(talk)
    with upload.part_in_flight(2, len(TWO)) as call:
        (zombie,) = talk.cluster.truth.alive
        assert (zombie.part, zombie.outcome) == (2, "alive")
        assert not talk.cluster.truth.wait_until_quiet(0.02)
        assert upload.part(2, TWO).status == 200
        assert upload.complete([1, 2]).status == 200
        if ending == "fails":
            call.half_close()
        else:
            call.send(TWO)
        call.reply()
    assert zombie.outcome == "unlinked-late"
    assert zombie.status == (500 if ending == "fails" else 200)
    part = f"part 2 of upload {upload.id} (x)"
    assert talk.cluster.truth.violations() == [
        f"{part} was sent again while an attempt of it was alive",
        f"complete of upload {upload.id} was sent while {part} had an attempt alive",
        f"{part} was destroyed when a late attempt of it (record {zombie.n}) ended",
    ]


def test_a_part_recorded_without_its_file(talk: Talk) -> None:
    """The first attempt ends in the middle of the second one, and takes the file that the second one is writing."""
    upload = started(talk)
    with upload.part_in_flight(2, len(TWO)) as first, upload.part_in_flight(2, len(TWO)) as second:
        first.half_close()
        assert first.reply().status == 500
        second.send(TWO)
        assert second.reply().status == 200
    assert upload.complete([1, 2]).status == 200
    assert not talk.get("x").whole
    assert talk.cluster.truth.attempts(op="get")[0].answer == "cut"
    assert outcomes(talk, part=2) == ["broken", "lost"]
    assert "recorded without its file" in talk.cluster.truth.violations()[-1]


def test_an_abort_before_its_time_and_what_it_leaves(talk: Talk) -> None:
    upload = started(talk)
    with upload.part_in_flight(2, len(TWO)) as call:
        assert upload.abort().status == 200
        call.send(TWO)
        assert call.reply().status == 200
    assert outcomes(talk, part=2) == ["orphaned"]
    (sentence,) = talk.cluster.truth.violations()
    assert (
        sentence == f"abort of upload {upload.id} was sent while part 2 of upload {upload.id} (x) had an attempt alive"
    )


def test_a_complete_that_is_sent_again(talk: Talk) -> None:
    upload = started(talk)
    assert upload.complete([1]).status == 200
    assert upload.complete([1]).status == 404
    assert talk.cluster.truth.violations() == [f"complete of upload {upload.id} (x) was sent again after it was done"]


def test_two_completes_at_once(talk: Talk) -> None:
    upload = started(talk)
    with talk.cluster.faults.add("stall_at", op="complete", byte=0):
        first = threading.Thread(target=upload.complete, args=([1],))
        first.start()
        while not talk.cluster.truth.attempts(op="complete"):
            time.sleep(0.001)
        assert talk.cluster.truth.violations() == []
    first.join()
    again = started(talk, "y")
    known = next(
        target._node.uploads._uploads[again.id]
        for target in talk.cluster._targets
        if again.id in target._node.uploads._uploads
    )
    with known.completing:  # holds both at the point where they meet
        threads = [threading.Thread(target=again.complete, args=([1],)) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(talk.cluster.truth.alive) < 2 or not talk.cluster.truth.violations():
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert talk.cluster.truth.violations() == [f"two completes of upload {again.id} (y) were in flight at once"]


def test_an_answer_that_never_went_out(talk: Talk) -> None:
    with Call(talk.owner("x")[0]) as call:
        call.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert call.reply().status == 400
    with talk.cluster.faults.add("lost_response", op="delete"), pytest.raises(ConnectionError):
        talk.send("DELETE", "x")
    other, delete = talk.cluster.truth.attempts(where="target")
    assert eventually(lambda: other.answer == "sent")  # noted when it is out, which its peer may see before
    assert (other.op, other.outcome, other.answer) == ("other", "refused", "sent")
    assert (delete.op, delete.outcome, delete.answer, delete.faults) == (
        "delete",
        "refused",
        "lost",
        ("lost_response",),
    )


def test_handlers_that_end_with_their_node(talk: Talk) -> None:
    upload = started(talk)
    target = next(one for one in talk.cluster.targets if one.url == f"http://{talk.owner('x')[0]}")
    with upload.part_in_flight(2, len(TWO)):
        target.restart()
        assert outcomes(talk, part=2) == ["died"]


def test_the_log_forgets_the_oldest_and_nothing_that_lives() -> None:
    truth = Truth(limit=10)
    part = Operation("part", "b", "x", 1, "upload")
    living = truth.begin("t[1]", "target", 1, part, 5)
    for _ in range(20):
        truth.end(truth.begin("t[1]", "target", 1, Operation("get"), 0), "done", status=200, received=0)
    assert len(truth) == 10
    truth.end(living, "stored", status=200, received=5)
    assert truth.wait_until_quiet(0)
    again = truth.begin("t[1]", "target", 1, part, 5)
    truth.clear()
    assert truth.attempts() == [again]
    truth.end(again, "unlinked-by-repeat", status=200, received=5)
    assert len(truth.violations()) == 1, "uploads with living attempts are remembered"


def test_many_uploads_are_not_remembered_for_ever() -> None:
    truth = Truth(limit=10)
    records: list[Record] = []
    for number in range(10_050):
        record = truth.begin("t[1]", "target", 1, Operation("part", "b", "x", 1, f"u{number}"), 5)
        if number:
            truth.end(record, "stored", status=200, received=5)
        records.append(record)
    assert len(truth._uploads) <= 10_001
    truth.begin_abort(truth.begin("t[1]", "target", 1, Operation("abort", "b", "x", None, "u0"), 5))
    assert len(truth.violations()) == 1, "the oldest one was still alive"
