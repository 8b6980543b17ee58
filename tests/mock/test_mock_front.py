"""Connections that wait at the front, and what sends them to a thread of their own and back."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from talk import SOON, Call, Talk, eventually

from fastmpu.mock import Cluster
from fastmpu.mock.server import Server
from fastmpu.mock.wire import Wire


def threads_of_connections() -> list[str]:
    return [thread.name for thread in threading.enumerate() if re.fullmatch(r"mock-.*-.*:\d+", thread.name)]


def put(call: Call, talk: Talk, name: str, marker: str, body: bytes) -> int:
    return call.ask("PUT", talk.path(name, marker), body).status


def test_small_requests_are_answered_beside_those_who_dawdle() -> None:
    with Cluster(targets=1) as cluster, ExitStack() as stack:
        talk = Talk(cluster)
        to, marker = talk.owner("x")
        in_head, in_body = stack.enter_context(Call(to)), stack.enter_context(Call(to))
        in_head.send(b"HEAD /v1/obj")
        in_body.head("PUT", talk.path("slow", marker), 1000)
        in_body.send(bytes(600))
        assert eventually(lambda: len(threads_of_connections()) == 2)
        assert eventually(lambda: bool(cluster.truth.attempts(name="slow", outcome="alive")))
        for at, call in enumerate([stack.enter_context(Call(to)) for _ in range(50)]):
            assert put(call, talk, f"quick{at}", marker, bytes(64 << 10)) == 200
            assert call.ask("HEAD", talk.path(f"quick{at}")).status == 200
        assert len(threads_of_connections()) == 2
        in_body.send(bytes(400))
        assert in_body.reply().status == 200
        in_head.send(talk.path("slow").removeprefix("/v1/obj").encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert in_head.reply("HEAD").headers["content-length"] == "1000"
        assert eventually(lambda: not threads_of_connections())


def test_a_request_in_pieces_that_come_soon_needs_no_thread() -> None:
    with Cluster(targets=1) as cluster:
        talk = Talk(cluster)
        assert eventually(lambda: not threads_of_connections())
        with Call(cluster.endpoint) as call, pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastmpu.mock.front._GRACE", SOON)
            handed_over: list[object] = []
            patch.setattr(Server, "hand_over", lambda *args, **kwargs: handed_over.append(args))
            call.head("PUT", talk.path("x"), 4)
            for piece in (b"a", b"b", b"cd"):
                time.sleep(0.01)
                call.send(piece)
            assert call.reply().status == 307
        assert not handed_over


def test_a_fault_meets_the_next_request_of_a_connection_that_waits() -> None:
    with Cluster(targets=1) as cluster:
        talk = Talk(cluster)
        to, marker = talk.owner("x")
        with Call(to) as call:
            assert put(call, talk, "x", marker, b"1") == 200
            with cluster.faults.add("status(code=503, times=always)"):
                assert [put(call, talk, "x", marker, b"2") for _ in range(2)] == [503, 503]
            assert put(call, talk, "x", marker, b"3") == 200
            assert eventually(lambda: not threads_of_connections())
            assert put(call, talk, "x", marker, b"4") == 200
        numbers = {record.connection for record in cluster.truth.attempts(op="put", where="target")}
        assert len(numbers) == 1


def test_a_client_that_reads_no_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Wire.__init__

    def with_small_buffer(wire: Wire, sock: socket.socket, *rest: object) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        make(wire, sock, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Wire, "__init__", with_small_buffer)
    with Cluster(targets=30) as cluster, Call(cluster.endpoint) as deaf, Call(cluster.endpoint) as other:
        assert eventually(lambda: not threads_of_connections())
        asked = 0
        while len(cluster.truth.attempts(op="map", answer="sent")) == asked:
            deaf.head("GET", "/v1/daemon?what=smap", None)
            asked += 1
            assert asked < 2000
            if not eventually_sent(cluster, asked):
                break
        assert len(threads_of_connections()) == 1
        assert cluster.truth.attempts(op="map")[-1].answer == "lost"
        assert other.ask("GET", "/v1/daemon?what=smap").status == 200
        assert [deaf.reply().status for _ in range(asked)] == [200] * asked
        assert deaf.ask("GET", "/v1/daemon?what=smap").status == 200


def eventually_sent(cluster: Cluster, count: int) -> bool:
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        if len(cluster.truth.attempts(op="map", answer="sent")) == count:
            return True
        time.sleep(0.001)
    return False


def test_a_node_that_ends_closes_its_own_connections_and_no_others() -> None:
    with Cluster(targets=2) as cluster:
        first, second = cluster.targets
        with Call(first.url) as one, Call(second.url) as other, Call(cluster.endpoint) as proxy:
            for call in (one, other, proxy):
                assert call.ask("GET", "/v1/daemon?what=smap").status == 200
            begun = time.monotonic()
            first.kill()
            assert one.ended()
            assert time.monotonic() - begun < 0.5
            for call in (other, proxy):
                assert call.ask("GET", "/v1/daemon?what=smap").status == 200
        first.restart()
        with Call(first.url) as again:
            assert again.ask("GET", "/v1/daemon?what=smap").status == 200


def test_a_request_under_which_the_node_ends_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(targets=1) as cluster:
        talk = Talk(cluster)
        to, marker = talk.owner("x")
        server, entered, go_on = cluster.targets[0]._server, threading.Event(), threading.Event()
        handler = server._handler

        def slow(exchange: object) -> object:
            entered.set()
            assert go_on.wait(SOON)
            return handler(exchange)  # type: ignore[arg-type]

        monkeypatch.setattr(server, "_handler", slow)
        with Call(to) as call:
            call.head("HEAD", talk.path("x", marker), None)
            assert entered.wait(SOON)
            killer = threading.Thread(target=cluster.targets[0].kill)
            killer.start()
            assert call.ended()
            go_on.set()
            killer.join()
        assert cluster.truth.attempts(op="head", where="target")[0].outcome == "died"


def test_all_threads_end_with_the_cluster() -> None:
    before = set(threading.enumerate())
    with Cluster(targets=2) as cluster, ExitStack() as stack:
        for _ in range(3):
            call = stack.enter_context(Call(cluster.endpoint))
            assert call.ask("GET", "/v1/daemon?what=smap").status == 200
        begun = time.monotonic()
        cluster.stop()
        assert time.monotonic() - begun < 0.5
        assert call.ended()
        assert set(threading.enumerate()) <= before


def test_a_connection_may_carry_small_and_large() -> None:
    with Cluster(targets=1) as cluster:
        talk = Talk(cluster)
        to, marker = talk.owner("x")
        large = bytes(range(256)) * 20_000
        with Call(to) as call:
            for name, body in [("a", b"small"), ("b", large), ("c", large[::-1]), ("d", b"small"), ("e", large)]:
                assert put(call, talk, name, marker, body) == 200
                assert call.ask("GET", talk.path(name)).body == body
        assert {record.connection for record in cluster.truth.attempts(op="put", where="target")} == {
            cluster.truth.attempts(op="get", where="target")[0].connection
        }


def test_a_connection_stays_with_its_thread_until_a_small_request_comes() -> None:
    with Cluster(targets=1) as cluster, Call(cluster.endpoint) as call:
        for _ in range(2):
            assert call.ask("GET", "/v1/health").status == 200
            assert len(threads_of_connections()) == 1
        for _ in range(2):
            assert call.ask("GET", "/v1/daemon?what=smap").status == 200
            assert eventually(lambda: not threads_of_connections())


def test_a_connection_at_the_front_ends_after_the_idle_timeout() -> None:
    with Cluster(targets=1, header_timeout=5, idle_timeout=0.2) as cluster, Call(cluster.endpoint) as call:
        for _ in range(2):  # the second request moves the deadline
            time.sleep(0.1)
            assert call.ask("GET", "/v1/daemon?what=smap").status == 200
        begun = time.monotonic()
        assert call.ended()
        assert 0.15 < time.monotonic() - begun < 1.0


@pytest.mark.parametrize("start", [b"", b"GET /v1/d"])
def test_a_first_head_must_be_there_after_the_header_timeout(start: bytes) -> None:
    with Cluster(targets=1, header_timeout=1.0, idle_timeout=5) as cluster, Call(cluster.endpoint) as call:
        begun = time.monotonic()
        time.sleep(0.6)
        call.send(start)
        assert call.ended()
        assert 0.9 < time.monotonic() - begun < 1.5


def test_a_later_head_has_the_header_timeout_from_its_first_byte() -> None:
    with Cluster(targets=1, header_timeout=0.4, idle_timeout=5) as cluster, Call(cluster.endpoint) as call:
        assert call.ask("GET", "/v1/daemon?what=smap").status == 200
        begun = time.monotonic()
        try:
            for _ in range(200):
                call.send(b"G")
                time.sleep(0.02)
        except ConnectionError:
            pass
        assert 0.35 < time.monotonic() - begun < 1.5


def test_a_client_that_half_closes_within_a_body_is_told() -> None:
    with Cluster(targets=1) as cluster:
        talk = Talk(cluster)
        to, marker = talk.owner("x")
        with Call(to) as call:
            call.head("PUT", talk.path("x", marker), 10)
            call.send(b"abc")
            call.half_close()
            assert call.reply().status == 500
        assert talk.head("x").status == 404


def test_a_bug_in_one_answer_ends_that_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def fail(exchange: object) -> None:
        raise ZeroDivisionError

    with Cluster(targets=1) as cluster, Call(cluster.endpoint) as other:
        monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
        monkeypatch.setattr(cluster.targets[0]._server, "_handler", fail)
        with Call(cluster.targets[0].url) as call:
            call.head("GET", "/v1/daemon?what=smap", None)
            assert call.ended()
        assert eventually(lambda: seen == [ZeroDivisionError])
        assert other.ask("GET", "/v1/daemon?what=smap").status == 200
