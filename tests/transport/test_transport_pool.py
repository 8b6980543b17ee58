"""Which connection serves which request."""

from __future__ import annotations

import threading
from math import inf

import httpx
import pytest
from loopback import OK

from fastmpu._transport import ConnectionPool, NetworkStream, Origin, Reply, ScriptedStream, ZeroCopyTransport

ONE = "http://one:8080/"
TWO = "http://two:8080/"


def get(transport: ZeroCopyTransport, url: str) -> None:
    assert transport.handle_request(httpx.Request("GET", url)).status_code == 200


def hold(transport: ZeroCopyTransport, url: str) -> httpx.Response:
    """A request whose answer is not read yet, so its connection is in use."""
    return transport.handle_request(httpx.Request("GET", url))


PENDING = Reply(OK, step=len(OK) - 2)


def test_origins_are_kept_apart_and_the_last_used_is_used_first() -> None:
    connect = ScriptedStream.connector([PENDING, PENDING, PENDING, OK, OK])
    transport = ZeroCopyTransport(connect=connect)
    answers = [hold(transport, ONE), hold(transport, ONE), hold(transport, TWO)]
    assert repr(transport.pool) == "<ConnectionPool 0 idle at 0 origins, 3 in use>"
    for answer in answers:
        answer.read()
        answer.close()
    assert repr(transport.pool) == "<ConnectionPool 3 idle at 2 origins, 0 in use>"
    get(transport, ONE)
    get(transport, ONE)
    assert [stream.wire.count(b"GET") for stream in connect.streams] == [1, 3, 1]
    transport.close()
    assert all(stream.closed for stream in connect.streams)


def test_beyond_the_limit_the_longest_idle_goes() -> None:
    connect = ScriptedStream.connector([PENDING] * 3)
    with ZeroCopyTransport(connect=connect, max_idle=2) as transport:
        for answer in [hold(transport, ONE) for _ in range(3)]:
            answer.read()
            answer.close()
        assert [stream.closed for stream in connect.streams] == [True, False, False]


def test_nothing_is_kept_when_nothing_may_be() -> None:
    connect = ScriptedStream.connector([OK])
    with ZeroCopyTransport(connect=connect, max_idle=0) as transport:
        get(transport, ONE)
        assert connect.streams[0].closed


def test_what_was_idle_too_long_is_closed_at_every_origin() -> None:
    connect = ScriptedStream.connector([OK] * 2)
    with ZeroCopyTransport(connect=connect, idle_seconds=-1) as transport:
        get(transport, ONE)
        get(transport, TWO)
        assert [stream.closed for stream in connect.streams] == [True, False]
        assert repr(transport.pool) == "<ConnectionPool 1 idle at 1 origins, 0 in use>"


def test_a_stale_connection_is_dropped_and_the_next_one_tried() -> None:
    connect = ScriptedStream.connector([PENDING, Reply(OK, end="close", step=len(OK) - 2), OK])
    with ZeroCopyTransport(connect=connect) as transport:
        for answer in [hold(transport, ONE), hold(transport, ONE)]:
            answer.read()
            answer.close()
        get(transport, ONE)
        assert [stream.closed for stream in connect.streams] == [False, True]


def test_close_ends_what_is_idle_now_and_what_is_in_use_later() -> None:
    connect = ScriptedStream.connector([OK, PENDING, PENDING])
    transport = ZeroCopyTransport(connect=connect)
    answers = [hold(transport, TWO), hold(transport, ONE), hold(transport, ONE)]
    transport.close()
    transport.close()
    assert [stream.closed for stream in connect.streams] == [True, False, False]
    assert repr(transport) == "<ZeroCopyTransport <ConnectionPool closed, 2 in use>>"
    assert answers[1].read() == b"ok"
    answers[1].close()
    answers[2].close()
    assert all(stream.closed for stream in connect.streams)
    with pytest.raises(RuntimeError, match="closed"):
        get(transport, ONE)


def test_what_is_idle_can_be_dropped() -> None:
    """What is in use meanwhile is kept afterwards: it has just worked."""
    connect = ScriptedStream.connector([PENDING, PENDING, OK, OK])
    with ZeroCopyTransport(connect=connect) as transport:
        answers = [hold(transport, ONE), hold(transport, TWO)]
        get(transport, "http://three:8080/")
        transport.pool.drop_idle()
        assert [stream.closed for stream in connect.streams] == [False, False, True]
        for answer in answers:
            answer.read()
            answer.close()
        transport.pool.drop_idle()
        assert all(stream.closed for stream in connect.streams)
        get(transport, ONE)
        assert len(connect.streams) == 4


def test_a_failed_connect_holds_no_place() -> None:
    def refuse(origin: Origin, seconds: float, cancel: object) -> NetworkStream:
        raise ConnectionRefusedError(f"nobody at {origin}")

    with ZeroCopyTransport(connect=refuse) as transport:
        for url, where in ((ONE, "one:8080"), ("http://[::1]/", r"\[::1\]:80")):
            with pytest.raises(httpx.ConnectError, match=f"nobody at {where}"):
                get(transport, url)
        assert "0 in use" in repr(transport)


def test_slow_connects_do_not_hold_up_anybody_else() -> None:
    """Nothing is connected under the lock: a good origin is served while another does not pick up."""
    release = threading.Event()
    entered = threading.Event()
    scripted = ScriptedStream.connector([OK] * 2)

    def connect(origin: Origin, seconds: float, cancel: object) -> NetworkStream:
        if origin.host == "one":
            entered.set()
            assert release.wait(10)
        return scripted(origin, seconds, None)

    with ZeroCopyTransport(connect=connect) as transport:
        slow = threading.Thread(target=get, args=(transport, ONE))
        slow.start()
        assert entered.wait(10)
        get(transport, TWO)
        release.set()
        slow.join()


def test_the_pool_alone() -> None:
    connect = ScriptedStream.connector()
    pool = ConnectionPool(connect)
    connection = pool.acquire(Origin("http", "one", 80), inf, None)
    assert repr(connection) == "<Connection one:80 sending the request, 0 requests>"
    pool.release(connection)
    assert connect.streams[0].closed
    pool.close()
