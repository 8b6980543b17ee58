"""What the part store loses, beyond the recorded cases (protocol 0, 5.1), and that `quirks="fixed"` does not."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import crc32c
import pytest
from talk import Call, Talk, Upload, ask, eventually

from fastmpu.mock import Cluster

ONE, TWO = b"1" * 1000, b"2" * 1500


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    with Cluster(targets=2) as cluster:
        yield Talk(cluster)


@pytest.fixture(scope="module")
def fixed() -> Iterator[Talk]:
    with Cluster(targets=2, quirks="fixed") as cluster:
        yield Talk(cluster)


def reset(call: Call) -> None:
    call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.socket.close()


def started(talk: Talk, name: str) -> Upload:
    """An upload whose part 1 is stored."""
    upload = talk.upload(name)
    assert upload.part(1, ONE).status == 200
    return upload


@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_attempt_that_dies_after_the_part_was_sent_again_takes_the_part_along(talk: Talk, how: str) -> None:
    """H2."""
    upload = started(talk, f"h2-{how}")
    with upload.part_in_flight(2, len(TWO)) as call:
        call.send(TWO[:700])
        assert upload.part(2, TWO).status == 200
        call.socket.close() if how == "close" else reset(call)
    assert upload.complete([1, 2]).status == 200
    assert eventually(lambda: not talk.get(upload.name).whole)
    assert talk.head(upload.name).headers["content-length"] == "2500"


def test_an_attempt_that_died_before_the_part_was_sent_again_does_no_harm(talk: Talk) -> None:
    upload = started(talk, "died-before")
    with upload.part_in_flight(2, len(TWO)) as call:
        call.send(TWO[:700])
        call.half_close()
        assert call.reply().message == "unexpected EOF"
    assert upload.part(2, TWO).status == 200
    assert upload.complete([2, 1]).status == 200
    assert talk.get(upload.name).body == ONE + TWO


@pytest.mark.parametrize("ending", ["fails", "succeeds"])
def test_a_zombie_destroys_a_part_even_after_a_verified_complete(talk: Talk, ending: str) -> None:
    """H4: complete and a full read were fine; then the old attempt ends, either way."""
    upload = started(talk, f"h4-{ending}")
    with upload.part_in_flight(2, len(TWO)) as call:
        call.send(TWO[:700])
        assert upload.part(2, TWO).status == 200
        assert upload.complete([1, 2]).status == 200
        assert talk.get(upload.name).body == ONE + TWO
        if ending == "fails":
            call.half_close()
            assert call.reply().status == 500
        else:
            call.send(TWO[700:])
            assert call.reply().status == 200
    reply = talk.get(upload.name)
    assert (reply.status, reply.whole, reply.body) == (200, False, ONE)
    assert talk.get(upload.name, "1001-1001").error["tcode"] == "PathError"


def test_a_late_duplicate_of_part_1_removes_the_whole_object(talk: Talk) -> None:
    """H4, protocol 10."""
    upload = talk.upload("part-1-late")
    with upload.part_in_flight(1, len(ONE)) as call:
        assert upload.part(1, ONE).status == 200
        assert upload.complete([1]).status == 200
        assert talk.get(upload.name).body == ONE
        call.send(ONE)
        assert call.reply().status == 200
    assert talk.head(upload.name).status == 404
    assert talk.get(upload.name).status == 404


def test_a_first_attempt_that_ends_well_after_the_second_one_failed_is_recorded_without_a_file(talk: Talk) -> None:
    upload = started(talk, "second-failed")
    with upload.part_in_flight(2, len(TWO)) as call:
        assert upload.part(2, TWO, {"x-amz-content-sha256": "wrong"}).status == 400
        call.send(TWO)
        assert call.reply().status == 200
    assert upload.complete([1, 2]).status == 200
    assert not talk.get(upload.name).whole


def test_a_part_being_replaced_reads_as_a_hole(talk: Talk) -> None:
    upload = started(talk, "being-replaced")
    assert upload.part(2, TWO).status == 200
    with upload.part_in_flight(2, len(TWO)) as call:
        call.send(TWO[:10])
        assert upload.complete([1, 2]).status == 200
        assert not talk.get(upload.name).whole
        reset(call)


def test_one_of_two_racing_completes_may_destroy_the_object(talk: Talk) -> None:
    """H5: the late one of two that both found the upload."""
    upload = started(talk, "h5")
    target = next(
        target for target in talk.cluster._targets if target.url.removeprefix("http://") == talk.owner(upload.name)[0]
    )
    known = target._node.uploads._uploads[upload.id]
    replies: list[int] = []
    with known.completing:  # holds both at the point where they meet
        threads = [threading.Thread(target=lambda: replies.append(upload.complete([1]).status)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert sorted(replies) == [200, 500]
    assert talk.head(upload.name).status == 404


def test_no_list_at_all_is_refused_after_all_else_was_looked_at(talk: Talk) -> None:
    """Protocol 5.1, 5.2: the upload, then its recorded parts, then the list that the client sends."""
    upload = talk.upload("null")
    null = b'{"action":"mpt-complete","value":null}'

    def answer(query: str) -> tuple[int, str]:
        reply = talk.send("POST", "null", null, query)
        return reply.status, reply.message

    query = f"&uploadId={upload.id}"
    assert answer("&uploadId=abcdefghij") == (404, f"o[{talk.name}/null(-)]: abcdefghij does not exist")
    assert answer(query) == (400, "no chunks")
    assert upload.part(2, TWO).status == 200
    assert answer(query) == (400, "chunk at (0) has invalid number 2 (count=1)")
    assert upload.part(1, ONE).status == 200
    assert answer(query) == (400, "nil parts list")
    assert upload.complete([1, 2]).status == 200


def test_abort_leaves_an_attempt_in_flight_alone(talk: Talk) -> None:
    upload = started(talk, "aborted")
    before = talk.cluster.stored_bytes
    with upload.part_in_flight(2, len(TWO)) as call:
        assert upload.abort().status == 200
        call.send(TWO)
        assert call.reply().status == 200
    assert upload.part(3, ONE).status == 404
    assert talk.cluster.stored_bytes == before - len(ONE) + len(TWO)  # the orphan


def test_a_bucket_destroyed_under_an_upload(talk: Talk) -> None:
    """Protocol 5.2: the id survives, the earlier parts do not."""
    own = Talk(talk.cluster)
    upload = started(own, "x")
    to, marker = own.owner("x")
    assert own.bucket("DELETE", {"action": "destroy-bck"}).status == 200
    query = f"&uploadId={upload.id}"
    assert ask(to, "PUT", own.path("x", f"{query}&partNumber=2{marker}"), TWO).status == 404
    assert ask(to, "POST", own.path("x", query + marker), b'{"action":"mpt-complete","value":[]}').status == 400
    assert ask(to, "DELETE", own.path("x", query + marker), b'{"action":"mpt-abort"}').status == 404
    own.create()
    assert upload.part(2, TWO).status == 200
    assert upload.complete([1, 2]).error["tcode"] == "ErrFailedTo"
    assert own.list() == []


def test_a_failed_complete_makes_a_ghost_that_put_replaces(talk: Talk) -> None:
    """H6: HEAD knows it until the first GET, lists do not."""
    upload = started(talk, "ghost")
    assert upload.complete([1]).status == 200
    again = started(talk, "ghost")
    assert again.part(1, ONE).status == 200
    assert again.complete([1]).status == 404
    assert talk.head("ghost").status == 200
    assert "ghost" not in talk.list()
    assert talk.put("ghost", b"new").headers["ais-version"] == "2"
    assert talk.get("ghost").body == b"new"


def test_checksum_of_parts_that_wait_for_each_other_and_start_in_order(talk: Talk) -> None:
    """Protocol 5.3: a failed attempt, and be it an empty one, makes it CRC-32C."""
    upload = started(talk, "after-a-failure")
    assert upload.part(2, b"").status == 400
    assert upload.part(2, TWO).status == 200
    assert upload.complete([1, 2]).status == 200
    headers = talk.head(upload.name, "checksum").headers
    assert headers["ais-checksum-type"] == "crc32c"
    assert headers["ais-checksum-value"] == f"{crc32c.crc32c(ONE + TWO):08x}"


def test_checksum_after_a_last_part_that_failed(talk: Talk) -> None:
    upload = started(talk, "last-failed")
    assert upload.part(2, TWO, {"x-amz-content-sha256": "wrong"}).status == 400
    assert upload.complete([1]).status == 200
    assert talk.head(upload.name, "checksum").headers["ais-checksum-value"] == f"{crc32c.crc32c(ONE):08x}"


def test_fixed_the_last_attempt_that_succeeds_counts(fixed: Talk) -> None:
    upload = started(fixed, "sent-again")
    with upload.part_in_flight(2, 10) as call:
        assert upload.part(2, TWO).status == 200
        assert upload.part(2, b"").status == 400
        reset(call)
    assert upload.part(1, b"new").status == 200
    assert upload.complete([1, 2]).status == 200
    assert fixed.get(upload.name).body == b"new" + TWO


def test_fixed_a_zombie_is_refused(fixed: Talk) -> None:
    upload = started(fixed, "zombie")
    with upload.part_in_flight(1, len(ONE)) as call:
        assert upload.complete([1]).status == 200
        call.send(ONE)
        assert call.reply().status == 404
    assert fixed.get(upload.name).body == ONE


def test_fixed_a_stranger_among_the_targets_refuses(fixed: Talk) -> None:
    owner, marker = fixed.owner("mine")
    other = next(target for target in fixed.cluster.targets if target.url != f"http://{owner}")
    assert ask(other.url, "PUT", fixed.path("mine", marker), b"x").status == 400


def test_fixed_part_numbers_are_the_clients_fault(fixed: Talk) -> None:
    assert fixed.upload("numbers").part(10_000, b"x").status == 400


def test_fixed_names_are_escaped_in_redirects(fixed: Talk) -> None:
    reply = ask(fixed.cluster.endpoint, "PUT", fixed.path("a\nb"))
    assert "/a%0Ab?" in reply.headers["location"]
