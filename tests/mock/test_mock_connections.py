"""Heads, bodies and connections: what clients do wrong, slowly or not at all (protocol 1.4, 1.6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talk import Call, Talk, ask

from fastmpu.mock import Cluster

HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(targets=1, header_timeout=0.3, idle_timeout=0.2, closing_delay=0.1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def talk(cluster: Cluster) -> Talk:
    return Talk(cluster)


def test_a_silent_connection_is_closed_without_a_word(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        begun = time.monotonic()
        assert call.ended()
        assert time.monotonic() - begun > 0.25


def test_a_client_is_not_left_waiting_where_there_is_no_thread_for_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of the interpreter, or of what the system gives."""

    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with Call(cluster.endpoint) as call:
            call.send(HEALTH)
            assert call.ended()
    with Call(cluster.endpoint) as call:
        assert call.ask("GET", "/v1/health").status == 200


def test_a_head_must_be_whole_in_time_however_its_bytes_trickle(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        sent = 0
        try:
            while sent < 200:
                call.send(b"G")
                sent += 1
                time.sleep(0.02)
        except ConnectionError:
            pass
        assert 5 < sent < 100


def test_an_idle_connection_is_closed(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        assert call.ask("GET", "/v1/health").status == 200
        assert call.ended()


def test_a_head_may_come_byte_by_byte_and_two_at_once(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        for byte in HEALTH[:-1]:
            call.send(bytes((byte,)))
        call.send(HEALTH[-1:] + HEALTH + HEALTH)
        assert [call.reply().status for _ in range(3)] == [200, 200, 200]


def test_a_body_may_take_longer_than_any_timeout(talk: Talk) -> None:
    upload = talk.upload("slow")
    with upload.part_in_flight(1, 4) as call:
        time.sleep(0.5)
        call.send(b"slow")
        assert call.reply().status == 200
    assert upload.complete([1]).status == 200


def test_heads_have_a_limit(cluster: Cluster) -> None:
    """1,050,000 B are taken, 1,100,000 B are not."""
    assert ask(cluster.endpoint, "GET", "/v1/health", headers={"X": "x" * 1_049_000}).status == 200
    with Call(cluster.endpoint) as call:
        call.head("GET", "/v1/health", None, {"X": "x" * 1_100_000})
        reply = call.reply()
        assert (reply.status, reply.body) == (431, b"431 Request Header Fields Too Large")
        assert reply.headers["connection"] == "close"
        assert call.ended()


def test_a_long_url_passes(talk: Talk) -> None:
    assert ask(talk.cluster.endpoint, "PUT", talk.path("x", "&x=" + "y" * 100_000)).status == 307


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (b"nonsense\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET /v1/health HTTP/1.1\r\n\r\n", 400, b"400 Bad Request: missing required Host header"),
        (b"GET /v1/health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, b"400 Bad Request: too many Host headers"),
        (b"GET /v1/health HTTP/1.1\r\nHost : x\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET /v1/health HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"505 HTTP Version Not Supported: unsupported"),
        (b"GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET v1/health HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"400 Bad Request"),
        (b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, b"400 Bad Request"),
        (b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, b"Unsupported transfer"),
    ],
)
def test_what_is_no_request_gets_plain_text_and_an_end(
    cluster: Cluster, request_: bytes, status: int, text: bytes
) -> None:
    with Call(cluster.endpoint) as call:
        call.send(request_)
        reply = call.reply()
        assert reply.status == status
        assert reply.body.startswith(text)
        assert text != b"400 Bad Request" or reply.body == text
        assert "date" not in reply.headers


def test_http_1_0_closes_unless_asked_to_stay(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        call.send(b"GET /v1/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert call.reply().headers["connection"] == "keep-alive"
        call.send(b"GET /v1/health HTTP/1.0\r\n\r\n")
        assert "connection" not in call.reply().headers  # the version says it
        assert call.ended()


def test_bytes_beyond_the_announced_body_are_the_next_request(talk: Talk) -> None:
    with Call(talk.cluster.endpoint) as call:
        call.head("PUT", talk.path("x"), 3)
        call.send(b"abc" + HEALTH + b"garbage\r\n\r\n")
        assert [call.reply().status for _ in range(3)] == [307, 200, 400]


def test_raw_utf_8_and_a_full_url_in_the_request_line(talk: Talk) -> None:
    with Call(talk.cluster.endpoint) as call:
        call.send(
            f"PUT http://elsewhere{talk.path('')}".replace("?", "é?", 1).encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert "%c3%a9?" in call.reply().headers["location"]


def test_an_intra_cluster_header_is_refused(cluster: Cluster) -> None:
    reply = ask(cluster.endpoint, "GET", "/v1/health", headers={"Ais-Caller-Id": "t1"})
    assert (reply.status, reply.message) == (403, "unexpected intra-cluster header on pub")


def test_a_chunked_object_may_be_large_and_come_in_odd_pieces(talk: Talk) -> None:
    data = bytes(range(256)) * 2000
    to, marker = talk.owner("chunked")
    with Call(to) as call:
        call.head("PUT", talk.path("chunked", marker), None, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), 77_777):
            piece = data[at : at + 77_777]
            call.send(b"%X;name=value\r\n" % len(piece))
            call.send(piece[:1])
            call.send(piece[1:] + b"\r\n")
        call.send(b"0\r\nTrailer: x\r\n\r\n")
        assert call.reply().status == 200
        assert call.ask("GET", "/v1/health").status == 200
    assert talk.get("chunked").body == data


@pytest.mark.parametrize("body", [b"zz\r\n", b"-5\r\n", b"5\r\nab", b"9" * 5000])
def test_chunked_encoding_that_makes_no_sense(talk: Talk, body: bytes) -> None:
    to, marker = talk.owner("chunked-bad")
    with Call(to) as call:
        call.head("PUT", talk.path("chunked-bad", marker), None, {"Transfer-Encoding": "chunked"})
        call.send(body)
        call.half_close()
        assert call.reply().status == 500
        assert call.ended()
    assert talk.head("chunked-bad").status == 404


def test_a_large_body_at_the_proxy_is_answered_unread(talk: Talk) -> None:
    with Call(talk.cluster.endpoint) as call:
        call.head("PUT", talk.path("x"), 1 << 40)
        reply = call.reply()
        assert (reply.status, reply.headers["connection"]) == (307, "close")
        assert call.ended()


def test_stop_does_not_wait_for_stalled_clients() -> None:
    """One is silent, one is in a head, one in a body, one does not read, one is being waited for after the answer."""
    before = set(threading.enumerate())
    cluster = Cluster(targets=1, closing_delay=30).start()
    talk = Talk(cluster)
    assert talk.put("big", bytes(32 << 20)).status == 200
    upload = talk.upload("x")
    to, _ = talk.owner("x")
    with Call(to), Call(to) as head, upload.part_in_flight(1, 1000), Call(to) as unread, Call(cluster.endpoint) as late:
        head.send(HEALTH[:10])
        unread.head("GET", talk.path("big"), None)
        late.head("PUT", talk.path("x"), 1 << 20)
        assert late.reply().status == 307
        time.sleep(0.05)
        begun = time.monotonic()
        cluster.stop()
        assert time.monotonic() - begun < 1.0
    assert set(threading.enumerate()) <= before


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"GET ", b"PUT ", b"/v1/objects/b/o", b"/v1/health", b" HTTP/1.1", b"\r\n", b"\r\n\r\n"]),
            st.sampled_from([b"Host: x", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Expect: 100-continue"]),
        ),
        max_size=12,
    )
)
def test_no_bytes_whatever_harm_the_listener(cluster: Cluster, pieces: list[bytes]) -> None:
    """An unhandled exception in a thread fails the test, too: warnings are errors."""
    with Call(cluster.endpoint) as call:
        try:
            call.send(b"".join(pieces))
            call.half_close()
            while True:
                call.reply()
        except (ConnectionError, OSError):
            pass
    assert ask(cluster.endpoint, "GET", "/v1/health").status == 200
