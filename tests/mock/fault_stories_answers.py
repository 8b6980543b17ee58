"""Stories of faults that hit answers, redirects and nodes, and of what stands in between."""

from __future__ import annotations

import gzip
import ssl
import time
from email.utils import parsedate_to_datetime
from functools import partial

import pytest
from fault_stories import BODY, SECONDS, alive, ends, only, put_by_hand, soon, story
from talk import Call, Talk, Upload, ask

from fastmpu.mock import Cluster
from fastmpu.mock.fault_menu import BAD_HEADERS

# -- response side


@story
def lost_response(talk: Talk) -> None:
    for how, seen in (("reset", "reset"), ("fin", "fin"), ("silence", "")):
        with talk.cluster.faults.add("lost_response", op="put", how=how), put_by_hand(talk, how) as call:
            call.send(BODY)
            if seen:
                assert ends(call) == seen
            else:
                call.socket.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    call.reply()
        assert talk.get(how).body == BODY, "it was done all the same"
        record = only(talk, op="put", name=how)
        assert (record.outcome, record.status, record.answer) == ("stored", 200, "lost")
        assert record.faults == ("lost_response",)


@story
def late_response(talk: Talk) -> None:
    talk.cluster.faults.add("late_response", op="put", ms=100)
    with put_by_hand(talk) as call:
        call.send(BODY)
        assert soon(lambda: not alive(talk, op="put"))
        begun = time.monotonic()
        assert call.reply().status == 200
        assert time.monotonic() - begun > 0.05, "the handler was over long before"


@story
def status(talk: Talk) -> None:
    talk.cluster.faults.add("status", op="put", code=503, tcode="ErrBusy", retry_after="7", message="not now")
    reply = talk.put("x", BODY)
    assert (reply.status, reply.headers["retry-after"], reply.message) == (503, "7", "not now")
    assert reply.error["tcode"] == "ErrBusy"
    assert talk.head("x").status == 404
    talk.cluster.faults.add("status", op="put", code=500, when="after")
    assert talk.put("x", BODY).status == 500
    assert talk.get("x").body == BODY
    assert [(record.outcome, record.status) for record in talk.cluster.truth.attempts(op="put")] == [
        ("refused", 503),
        ("stored", 500),
    ]


@story
def f_200_with_error_body(talk: Talk) -> None:
    upload = talk.upload("x")
    assert upload.part(1, BODY).status == 200
    talk.cluster.faults.add("200_with_error_body", op="complete")
    reply = upload.complete([1])
    assert (reply.status, reply.error["status"]) == (200, 500)
    assert talk.head("x").status == 404
    talk.cluster.faults.add("200_with_error_body(true, op=complete)")
    assert upload.complete([1]).error["status"] == 500
    assert talk.get("x").body == BODY


@story
def truncated_body(talk: Talk) -> None:
    assert talk.put("x", BODY).status == 200
    talk.cluster.faults.add("truncated_body", op="get", byte=100)
    reply = talk.get("x")
    assert (reply.whole, reply.body) == (False, BODY[:100])
    assert only(talk, op="get").answer == "cut"
    talk.cluster.faults.add("truncated_body", op="put")
    reply = talk.put("y", BODY)
    assert (reply.whole, reply.headers["content-length"]) == (False, "10")


@story
def bad_headers(talk: Talk) -> None:
    seen = set()
    for kind in BAD_HEADERS:
        talk.cluster.faults.add("bad_headers", op="delete", kind=kind)
        to, marker = talk.owner("x")
        with Call(to) as call:
            call.head("DELETE", talk.path("x", marker), None)
            answer = b""
            while some := call.socket.recv(1 << 16):
                answer += some
        date = answer.index(b"Date:")
        seen.add(answer[:date] + answer[date + 37 :])
    assert len(seen) == len(BAD_HEADERS), "each is bad in its own way"


@story
def extra_bytes(talk: Talk) -> None:
    talk.cluster.faults.add("extra_bytes", op="put", n=11)
    with put_by_hand(talk) as call:
        call.send(BODY)
        assert call.reply().status == 200
        call.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            call.reply()
        assert call._arrived == b"surplus sur"


@story
def gzip_body(talk: Talk) -> None:
    assert talk.put("x", BODY).status == 200
    talk.cluster.faults.add("gzip_body", op="get")
    reply = talk.get("x")
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body) == BODY


@story
def huge_headers(talk: Talk) -> None:
    talk.cluster.faults.add("huge_headers", op="put", size=200_000)
    assert sum(len(value) for value in talk.put("x", BODY).headers.values()) > 200_000


@story
def f_1xx(talk: Talk) -> None:
    talk.cluster.faults.add("1xx", op="put", n=3, code=102)
    with put_by_hand(talk) as call:
        call.send(BODY)
        assert [call.reply().status for _ in range(4)] == [102, 102, 102, 200]


@story
def close_idle(talk: Talk) -> None:
    talk.cluster.faults.add("close_idle", where="proxy", ms=50)
    with Call(talk.cluster.endpoint) as call:
        assert call.ask("GET", "/v1/health").headers.get("connection") is None
        begun = time.monotonic()
        assert call.ended()
        assert 0.02 < time.monotonic() - begun < 2.0


@story
def close_without_notice(talk: Talk) -> None:
    for how in ("fin", "reset"):
        talk.cluster.faults.add("close_without_notice", where="proxy", how=how)
        with Call(talk.cluster.endpoint) as call:
            if how == "fin":
                assert "connection" not in call.ask("GET", "/v1/health").headers
            else:
                call.head("GET", "/v1/health", None)
            assert ends(call) == how


# -- redirects


def location(talk: Talk, name: str = "x", method: str = "PUT") -> str:
    return ask(talk.cluster.endpoint, method, talk.path(name)).headers.get("location", "")


@story
def loop(talk: Talk) -> None:
    talk.cluster.faults.add("loop", op="put")
    for _ in range(3):
        assert location(talk).startswith(talk.cluster.endpoint + talk.path("x"))


@story
def chain(talk: Talk) -> None:
    owner = talk.owner("x")[0]
    talk.cluster.faults.add("chain", n=2)
    url, hops = talk.cluster.endpoint + talk.path("x"), []
    while url.startswith(talk.cluster.endpoint):
        url = ask(talk.cluster.endpoint, "PUT", url.removeprefix(talk.cluster.endpoint)).headers["location"]
        hops.append(url)
    assert len(hops) == 3
    assert url.startswith(f"http://{owner}")


@story
def to_stranger(talk: Talk) -> None:
    talk.cluster.faults.add("to_stranger", url="http://198.51.100.1:8080")
    assert location(talk).startswith("http://198.51.100.1:8080/v1/objects/")


@story
def downgrade(talk: Talk) -> None:

    with Cluster(targets=1, tls="self-made") as cluster:
        cluster.faults.add("downgrade")
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        with cluster.faults.add("downgrade"):
            cluster.bucket("b")
            reply = ask(cluster.endpoint, "HEAD", "/v1/objects/b/x?provider=ais", context=context)
        assert reply.headers["location"].startswith("http://127.0.0.1")
    talk.cluster.faults.add("downgrade")
    assert location(talk).startswith("http://")


@story
def stale_owner(talk: Talk) -> None:
    owner = talk.owner("x")[0]
    talk.cluster.faults.add("stale_owner")
    url = location(talk)
    assert url.startswith("http://127.0.0.1")
    assert owner not in url
    assert ask(url.split("/v1")[0], "PUT", "/v1" + url.split("/v1")[1], BODY).status == 200
    assert talk.head("x").status == 404, "misplaced"


@story
def raw_name(talk: Talk) -> None:
    escaped = location(talk, "a b%#c\nd")
    assert "a%20b%25%23c%0Ad" in escaped
    talk.cluster.faults.add("raw_name")
    assert "a b%#c d" in location(talk, "a b%#c\nd")


@story
def no_location(talk: Talk) -> None:
    talk.cluster.faults.add("no_location", op="get")
    assert location(talk, method="HEAD")
    assert not location(talk, method="GET")


@story
def f_301_on_put(talk: Talk) -> None:
    talk.cluster.faults.add("301_on_put", code=302, op="put")
    reply = ask(talk.cluster.endpoint, "PUT", talk.path("x"))
    assert reply.status == 302
    assert reply.headers["location"]


@story
def expired_signature(talk: Talk) -> None:
    talk.cluster.faults.add("expired_signature", op="put")
    assert talk.put("x", BODY).status == 401
    assert talk.put("x", BODY).status == 200


# -- cluster


@story
def restart_target(talk: Talk) -> None:
    for keep in (False, True):
        upload = talk.upload(f"keep-{keep}")
        assert upload.part(1, BODY).status == 200
        talk.cluster.faults.add("restart_target", op="part", part=2, keep_state=keep)
        with pytest.raises((ConnectionError, TimeoutError)):
            upload.part(2, BODY)
        assert soon(partial(is_back, upload, keep=keep))
    assert {record.outcome for record in talk.cluster.truth.attempts(part=2)} == {"died"}


def is_back(upload: Upload, *, keep: bool) -> bool:
    """The gap probe after the restart: the upload is there or is not."""
    try:
        reply = upload.complete([])
    except OSError:
        return False
    return reply.status == (400 if keep else 404)


@story
def kill_target(talk: Talk) -> None:
    to, _ = talk.owner("x")
    target = next(number for number, target in enumerate(talk.cluster.targets) if to in target.url)
    with talk.cluster.faults.add("kill_target", where=f"target:{target}"), pytest.raises(ConnectionRefusedError):
        talk.put("x", BODY)
    assert talk.put("x", BODY).status == 200, "removed, and it is back"


@story
def move_owner(talk: Talk) -> None:
    upload = talk.upload("x")
    before = talk.owner("x")[0]
    talk.cluster.faults.add("move_owner", op="part")
    assert upload.part(1, BODY).status == 200, "what asked was still dealt with"
    assert soon(lambda: talk.owner("x")[0] != before)
    assert upload.part(2, BODY).status == 404


@story
def proxy_down(talk: Talk) -> None:
    talk.cluster.faults.add("proxy_down", ms=100)
    with pytest.raises(ConnectionRefusedError):
        Call(talk.cluster.endpoint)
    assert soon(lambda: is_up(talk))


def is_up(talk: Talk) -> bool:
    try:
        return ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200
    except ConnectionError:
        return False


@story
def election(talk: Talk) -> None:
    talk.cluster.faults.add("election", ms=100)
    reply = ask(talk.cluster.endpoint, "PUT", talk.path("x"))
    assert (reply.status, reply.body) == (503, b"")
    assert soon(lambda: ask(talk.cluster.endpoint, "PUT", talk.path("x")).status == 307)


@story
def f_429_burst(talk: Talk) -> None:
    talk.cluster.faults.add("429_burst", n=2)
    replies = [ask(talk.cluster.endpoint, "PUT", talk.path("x")) for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 307]
    assert replies[0].error["tcode"] == "ErrRateLimitFrontend"


@story
def oos_507(talk: Talk) -> None:
    with talk.cluster.faults.add("oos_507", op="put"):
        assert [talk.put("x", BODY).status for _ in range(2)] == [507, 507]
    assert talk.put("x", BODY).status == 200


@story
def cleanup_now(talk: Talk) -> None:
    upload = talk.upload("x")
    assert upload.part(1, BODY).status == 200
    assert upload.part(2, BODY).status == 200
    talk.cluster.faults.add("cleanup_now")
    assert upload.part(1, BODY).status == 200
    assert upload.complete([1, 2]).status == 404


@story
def clock_skew(talk: Talk) -> None:
    with talk.cluster.faults.add("clock_skew", where="proxy", ms=-7_200_000):
        shown = parsedate_to_datetime(ask(talk.cluster.endpoint, "GET", "/v1/health").headers["date"])
    assert 7100 < time.time() - shown.timestamp() < 7300


# -- quirks


def survives_a_repeat(talk: Talk, upload: Upload) -> bool:
    """Whether an object can be read whose part 2 was sent twice."""
    assert [upload.part(number, BODY).status for number in (1, 2, 2)] == [200, 200, 200]
    assert upload.complete([1, 2]).status == 200
    return talk.get(upload.name).whole


@story
def dup_part_unlinks(talk: Talk) -> None:
    begun = talk.upload("old")
    with talk.cluster.faults.add("dup_part_unlinks", on=False):
        assert survives_a_repeat(talk, talk.upload("new"))
        assert not survives_a_repeat(talk, begun), "the rule that held when it began"
    assert not survives_a_repeat(talk, talk.upload("after")), "removed, and as it was"


@story
def late_attempt_unlinks(talk: Talk) -> None:
    begun = talk.upload("old")
    with talk.cluster.faults.add("late_attempt_unlinks(on=false)"):
        for upload, kept in ((begun, False), (talk.upload("new"), True)):
            assert upload.part(1, BODY).status == 200
            with upload.part_in_flight(2, 10) as late:
                assert upload.part(2, BODY).status == 200
                late.half_close()
                assert late.reply().status == 500
            assert upload.complete([1, 2]).status == 200
            assert talk.get(upload.name).whole == kept


@story
def failed_complete_drops_previous(talk: Talk) -> None:
    for on in ("true", "false"):
        with talk.cluster.faults.add(f"failed_complete_drops_previous({on})"):
            old, new = talk.upload(on), talk.upload(on)
            assert [old.part(1, BODY).status, old.complete([1]).status] == [200, 200]
            assert [new.part(1, BODY).status, new.part(1, BODY).status, new.complete([1]).status] == [200, 200, 404]
            assert talk.get(on).status == (404 if on == "true" else 200)


@story
def stale_put_misplaces(talk: Talk) -> None:
    to, marker = talk.owner("x")
    (stranger,) = (target.url for target in talk.cluster.targets if to not in target.url)
    with talk.cluster.faults.add("stale_put_misplaces", on=False):
        assert ask(stranger, "PUT", talk.path("x", marker), BODY).status == 400
    assert ask(stranger, "PUT", talk.path("x", marker), BODY).status == 200
    assert talk.get("x").status == 404


@story
def newline_location(talk: Talk) -> None:
    """Two that say different things: the later one is believed, and after it the earlier one again."""

    def location() -> str:
        return ask(talk.cluster.endpoint, "PUT", talk.path("a\nb")).headers["location"]

    with talk.cluster.faults.add("newline_location", on=False):
        assert "/a%0Ab?" in location()
        with talk.cluster.faults.add("newline_location"):
            assert "/a b?" in location()
        assert "/a%0Ab?" in location()
    assert "/a b?" in location()


@story
def f_500_for_part_number(talk: Talk) -> None:
    """With a match it begins at that request, and ends after its time."""
    upload = talk.upload("x")
    assert upload.part(0, BODY).status == 500
    talk.cluster.faults.add("500_for_part_number(on=false, ms=20, op=part)")
    assert upload.part(0, BODY).status == 400
    assert soon(lambda: upload.part(0, BODY).status == 500)


@story
def inorder_checksum(talk: Talk) -> None:
    with talk.cluster.faults.add("inorder_checksum(false)"):
        upload = talk.upload("x")
        assert [upload.part(1, BODY).status, upload.complete([1]).status] == [200, 200]
        assert talk.head("x").headers["ais-checksum-type"] == "crc32c"
    upload = talk.upload("x")
    assert [upload.part(1, BODY).status, upload.complete([1]).status] == [200, 200]
    assert talk.head("x").headers["ais-checksum-type"] == "xxhash2"


# -- middleboxes


@story
def half_dead(talk: Talk) -> None:
    """The client sees the end; the handler lives on, stores the part, and so destroys it."""
    upload = talk.upload("x")
    assert upload.part(1, BODY).status == 200
    for how in ("rst", "fin"):
        with talk.cluster.faults.add("half_dead", op="part", part=2, how=how, ms="forever"):
            to, marker = talk.owner("x")
            with Call(to) as call:
                call.head("PUT", talk.path("x", f"&uploadId={upload.id}&partNumber=2{marker}"), len(BODY))
                call.send(BODY)
                assert ends(call) == ("reset" if how == "rst" else "fin")
            assert alive(talk, part=2)
        assert talk.cluster.truth.wait_until_quiet(SECONDS)
    assert [record.outcome for record in talk.cluster.truth.attempts(part=2)] == ["stored", "unlinked-by-repeat"]
    with talk.cluster.faults.add("half_dead", op="put", who="target", byte=10), put_by_hand(talk, "y") as call:
        call.send(BODY)
        assert soon(lambda: any(record.outcome == "broken" for record in talk.cluster.truth.attempts(op="put")))
        call.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            call.reply()


def gateway(talk: Talk, code: int) -> None:
    upload = talk.upload("x")
    with talk.cluster.faults.add(f"gateway_{code}", op="part", part=1, ms="forever"):
        reply = upload.part(1, BODY)
        assert reply.status == code
        assert reply.body.startswith(b"<html>")
        assert alive(talk, part=1)
    record = only(talk, part=1)
    assert (record.outcome, record.answer) == ("stored", "lost")
    with talk.cluster.faults.add(f"gateway_{code}(byte=5, op=part, part=2)") as handle:
        assert upload.part(2, BODY).status == code
        handle.remove()
        assert only(talk, part=2).outcome == "broken"


@story
def gateway_502(talk: Talk) -> None:
    gateway(talk, 502)


@story
def gateway_504(talk: Talk) -> None:
    gateway(talk, 504)
