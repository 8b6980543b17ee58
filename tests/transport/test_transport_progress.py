"""The progress clock: a trickle is a stall, a slow network is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import OK, Peer, Server

from fastmpu._transport import BodyStream, BufferBody, Exchange, ZeroCopyTransport
from fastmpu._transport.exchange import Stalled
from fastmpu._transport.progress import ProgressClock

BIG = 24 << 20
SECONDS = 0.3
RATE = 1 << 20  # bytes a second; what a buffer of the kernel's holds is far less than that times SECONDS


@pytest.fixture
def transport() -> Iterator[ZeroCopyTransport]:
    with ZeroCopyTransport() as transport:
        yield transport


def put(transport: ZeroCopyTransport, url: str, size: int, **extensions: object) -> httpx.Response:
    extensions = {"timeout": {"write": 10, "read": 10}, "progress": (RATE, SECONDS), **extensions}
    response = transport.handle_request(
        httpx.Request("PUT", url, stream=BodyStream(BufferBody(bytes(size))), extensions=extensions)
    )
    response.read()
    response.close()
    return response


def after(seconds: float, bytes_first: int, then: int, every: float) -> Callable[[Peer], None]:
    """Takes `bytes_first`, waits, and goes on with `then` bytes now and then."""

    def story(peer: Peer) -> None:
        peer.read_head()
        peer.sink(bytes_first)
        time.sleep(seconds)
        while not peer.done.wait(every):
            peer.socket.recv(then)

    return story


@pytest.mark.parametrize(
    ("bytes_first", "then"), [(0, 1), (0, 2000), (8 << 20, 500)], ids=["nothing", "a trickle", "fast, then a trickle"]
)
def test_a_trickle_is_noticed_in_time(transport: ZeroCopyTransport, bytes_first: int, then: int) -> None:
    """Within 1.2 times the limit, though every other clock is set anew by each byte (rclone/rclone#9841)."""
    exchange = Exchange()
    with Server(after(0, bytes_first, then, 0.02), receive_buffer=8192) as server:
        began = time.monotonic()
        with pytest.raises(httpx.WriteTimeout, match="stalled at"):
            put(transport, server.url, BIG, exchange=exchange)
        took = time.monotonic() - began
    assert SECONDS <= took < 1.2 * SECONDS + (0.3 if bytes_first else 0.15)
    assert bytes_first <= exchange.handed < BIG


def test_a_slow_network_is_none(transport: ZeroCopyTransport) -> None:
    """Three times the limit's rate, in small steps, for three times its window: it is left alone."""

    def slow(peer: Peer) -> None:
        peer.read_head()
        left = 3 << 20
        while left:
            took = time.monotonic()
            peer.sink(min(left, 64 << 10))
            left -= min(left, 64 << 10)
            time.sleep(max(0.0, 0.02 - (time.monotonic() - took)))
        peer.send(OK)
        peer.done.wait(5)

    with Server(slow, receive_buffer=8192) as server:
        assert put(transport, server.url, 3 << 20).text == "ok"


def test_progress_sets_the_write_clock_anew(transport: ZeroCopyTransport) -> None:
    """Room in the kernel comes in steps of a third of its buffer: between two of them the peer may well be reading."""

    def steady(peer: Peer) -> None:
        peer.read_head()
        for _ in range(12):
            peer.sink(256 << 10)
            time.sleep(0.05)
        peer.send(OK)
        peer.done.wait(5)

    with Server(steady, receive_buffer=8192) as server:
        response = put(transport, server.url, 3 << 20, timeout={"write": 0.15, "read": 2}, progress=(1000, SECONDS))
    assert response.text == "ok"


def test_a_tail_in_the_kernel_counts_as_well(transport: ZeroCopyTransport) -> None:
    """All was handed over, and the peer takes none of it: the clock goes on until it has been acknowledged."""
    exchange = Exchange()
    with Server(after(0, 0, 1, 0.02), receive_buffer=4096) as server:
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout, match="stalled at"):
            put(transport, server.url, 1 << 19, exchange=exchange)
        took = time.monotonic() - began
    assert exchange.handed == 1 << 19
    assert took < 1.2 * SECONDS + 0.15


def test_the_wait_for_an_answer_is_not_a_stall(transport: ZeroCopyTransport) -> None:
    """The peer has it all and thinks: that is the response clock's."""

    def thinking(peer: Peer) -> None:
        peer.read_request()
        time.sleep(0.3)
        peer.send(OK)
        peer.done.wait(5)

    with Server(thinking) as server:
        assert put(transport, server.url, 100_000, progress=(RATE, 0.1)).text == "ok"


def test_the_write_clock_is_not_lent_to_the_answer(transport: ZeroCopyTransport) -> None:
    stuck = threading.Event()

    def silent(peer: Peer) -> None:
        peer.read_request()
        stuck.wait(5)

    with Server(silent) as server:
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout, match="timed out"):
            put(transport, server.url, 8 << 20, timeout={"write": 10, "read": 0.2})
        assert time.monotonic() - began < 2
        stuck.set()


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 400)), max_size=60))
def test_the_clock_by_its_definition(steps: list[tuple[float, int]]) -> None:
    """Stalled only if the average over a whole window was too low, and at the latest a tenth of one after it was."""
    rate, seconds = 100.0, 10.0
    clock = ProgressClock(rate, seconds)
    now, moved = 1000.0, 0
    history = [(now, moved)]
    clock.look(now, moved)
    for wait, count in steps:
        now, moved = now + wait, moved + count
        if now < clock.due:
            continue
        history.append((now, moved))
        windows = [(t, m) for t, m in history[:-1] if now - t >= seconds]
        slow = [m for t, m in windows if moved - m < rate * (now - t)]
        try:
            clock.look(now, moved)
        except Stalled:
            assert slow
            return
        if windows:
            last_time, last_moved = windows[-1]
            assert moved - last_moved >= rate * (now - last_time)
