"""The model of a network: what it costs, on a clock of its own and, within wide bounds, on the real one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk import Call, Reply, Talk, ask

from fastmpu.mock import Cluster, Link
from fastmpu.mock.links import Lane, NodeLink, Throttle

HEALTH = "/v1/health"


@given(sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=50), rate=st.integers(100, 1_000_000))
def test_bytes_pass_at_the_rate(sizes: list[int], rate: int) -> None:
    now = [0.0]
    throttle = Throttle(rate, clock=lambda: now[0])
    for size in sizes:
        now[0] += throttle.take(size)
    assert sum(sizes) / rate - 0.03 <= now[0] <= sum(sizes) / rate + 1e-6


def test_an_idle_line_saves_little() -> None:
    now = [0.0]
    throttle = Throttle(1000, clock=lambda: now[0])
    assert throttle.take(10) == 0
    now[0] = 100.0
    assert throttle.take(1020) == pytest.approx(1.0)


def waits_of(link: Link, node: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(Lane, "_wait", lambda self, seconds: waits.append(seconds))
    there = NodeLink(link, node)
    for lane in (there.lane(), there.lane()):
        lane.travel()
        for _ in range(3):
            lane.received(100)
            lane.received(100)
            lane.sending(10)
            lane.sending(10)
    return [round(wait, 9) for wait in waits if wait]


def test_the_same_seed_draws_the_same_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = (waits_of(Link(0.1, jitter=0.05, seed=3), "node 1", monkeypatch) for _ in range(2))
    assert first == again
    assert len(first) == 8  # two connections: to set up, and three answers each
    assert all(0.1 <= wait <= 0.15 for wait in first)
    assert first != waits_of(Link(0.1, jitter=0.05, seed=4), "node 1", monkeypatch)
    assert first != waits_of(Link(0.1, jitter=0.05, seed=3), "node 2", monkeypatch)


def took(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def test_connections_and_answers_pay_round_trips() -> None:
    with Cluster(targets=1, link=Link(round_trip=0.05)) as cluster, Call(cluster.endpoint) as call:
        assert 0.09 < took(lambda: call.ask("GET", HEALTH)) < 2  # the connection's, and the answer's
        assert 0.045 < took(lambda: call.ask("GET", HEALTH)) < 2
        head = f"GET {HEALTH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        call.send(head * 10)  # at once: they travel together
        assert took(lambda: [call.reply() for _ in range(10)]) < 0.4


def test_rates_hold_in_both_directions_and_add_up_at_a_node() -> None:
    data = random.Random(1).randbytes(100_000)
    for link in (Link(bandwidth_per_connection=500_000), Link(bandwidth_per_node=500_000)):
        with Cluster(targets=1, link=link) as cluster:
            talk = Talk(cluster)
            assert 0.15 < took(lambda talk=talk: talk.put("o", data)) < 3  # type: ignore[misc]
            got: list[Reply] = []
            assert 0.15 < took(lambda talk=talk, got=got: got.append(talk.get("o"))) < 3  # type: ignore[misc]
            assert got[0].body == data


def test_a_node_stops_though_its_line_is_slow() -> None:
    cluster = Cluster(targets=1, link=Link(round_trip=30)).start()
    with Call(cluster.endpoint) as call:
        call.head("GET", HEALTH, None)
        assert took(cluster.stop) < 5
        assert call.ended()


def test_without_a_link_nothing_is_slower() -> None:
    with Cluster(targets=1) as cluster:
        assert took(lambda: [ask(cluster.endpoint, "GET", HEALTH) for _ in range(20)]) < 5


def test_bad_arguments() -> None:
    for options in ({"round_trip": -1}, {"jitter": -0.1}):
        with pytest.raises(ValueError, match="seconds"):
            Link(**options)
    for name in ("bandwidth_per_connection", "bandwidth_per_node"):
        with pytest.raises(ValueError, match=name):
            Link(**{name: 0})
