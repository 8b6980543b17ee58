"""Whatever order threads run in, and whatever fails: no deadlock, and one of two end states (section 4.10)."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from interposer import Action, answer, gateway_error, lose_answer, refuse, time_out, unreachable

import fastmpu
from fastmpu import mock
from fastmpu.errors import Cancelled, PartError, RestartsExhaustedError

from .scheduler import DrawnQueue, DrawnWire, Schedule

DATA = random.Random(11).randbytes(6_500)
SCHEDULES = 300
GROUPS = 10
AT_ONCE = fastmpu.RetryPolicy(attempts=3, base=0.0)
# What may happen to a part: refused in so many words, never sent, stored without an answer, lost without an answer.
REFUSED: list[Action] = [refuse(500), refuse(429), refuse(503), unreachable]
STORED: list[Action] = [lose_answer, time_out, gateway_error]
LOST: list[Action] = [answer(504), answer(502, b"<html>")]


@pytest.fixture
def drawn(cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrawnWire]:
    """A wire whose schedule runs the pipeline."""
    wire = DrawnWire()
    monkeypatch.setattr("fastmpu._upload.parts_run.executor", lambda *args: wire.schedule.executor(*args))  # type: ignore[union-attr]
    monkeypatch.setattr("fastmpu._upload.parts_run.SimpleQueue", lambda: DrawnQueue(wire.schedule))  # type: ignore[arg-type]
    monkeypatch.setattr("fastmpu._upload.fence.NETWORK_FENCE", 0.0)
    yield wire
    wire.close()


def run(
    cluster: mock.Cluster, wire: DrawnWire, seed: int, cancel_at: int | None = None
) -> tuple[fastmpu.Object, fastmpu.Receipt | Exception]:
    """One upload of 7 parts, with up to four faults, in the order of `seed`."""
    schedule = wire.schedule = Schedule(seed)
    dice = random.Random(-seed - 1)
    wire._rules.clear()
    wire._wires.clear()
    for _ in range(dice.randint(0, 4)):
        fault = dice.choice([*REFUSED, *REFUSED, *STORED, *LOST])
        wire.on("part", fault, part=dice.randint(1, 7), times=1)
    event = None
    if cancel_at is not None:
        event = threading.Event()
        schedule.on_step = lambda: event.set() if schedule.steps >= cancel_at else None
    client = fastmpu.Client(cluster.endpoint, transport=wire, timeouts=fastmpu.Timeouts(fence=0.05))
    obj = client.bucket("bucket").object(f"schedule-{seed}-{cancel_at}")
    try:
        return obj, obj.upload(
            DATA,
            part_size=1_000,
            max_concurrency=dice.randint(1, 5),
            retry=AT_ONCE,
            cancel=event,
            fence=dice.choice(["answer", "answer", "network"]),
            journal="off",  # it commits by the clock, and a run is to be the same run each time
        )
    except (Cancelled, PartError, RestartsExhaustedError) as error:
        return obj, error


def check(cluster: mock.Cluster, wire: DrawnWire, obj: fastmpu.Object, end: fastmpu.Receipt | Exception) -> None:
    """Read back and equal, or not there at all; no part file left of any upload; no thread; nothing sent twice."""
    wire.schedule = None
    if isinstance(end, fastmpu.Receipt):
        assert obj.get_reader().read_all() == DATA
        assert end.verified == "head"
        assert end.attempts == len(wire.of("part"))
        obj.delete()
    else:
        assert not obj.exists()
    assert cluster.stored_bytes == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "scheduled"]
    assert "0 in use" in repr(wire)


@pytest.mark.parametrize("group", range(GROUPS))
def test_any_schedule_ends_well(cluster: mock.Cluster, drawn: DrawnWire, group: int) -> None:
    """Success and a true read-back, or a named error and nothing left."""
    ends: Counter[str] = Counter()
    for seed in range(group * SCHEDULES // GROUPS, (group + 1) * SCHEDULES // GROUPS):
        obj, end = run(cluster, drawn, seed)
        check(cluster, drawn, obj, end)
        ends[type(end).__name__] += 1
    assert ends["Receipt"] >= 0.9 * sum(ends.values()), ends


@pytest.mark.parametrize("group", range(4))
def test_cancel_at_any_step(cluster: mock.Cluster, drawn: DrawnWire, group: int) -> None:
    """At each step of a schedule: the same end state, Cancelled and nothing left, or done before it was noticed."""
    ends: defaultdict[str, int] = defaultdict(int)
    for step in range(1, 26):
        obj, end = run(cluster, drawn, 1000 + group, cancel_at=step)
        assert isinstance(end, (fastmpu.Receipt, Cancelled)), end
        check(cluster, drawn, obj, end)
        ends[type(end).__name__] += 1
    assert ends["Cancelled"]


def test_part_1_is_never_handled_first(cluster: mock.Cluster, drawn: DrawnWire) -> None:
    """In any order of two parts the cluster's checksum is CRC32C, so that HEAD proves the object (protocol 5.3)."""
    client = fastmpu.Client(cluster.endpoint, transport=drawn)
    obj = client.bucket("bucket").object("two-parts")
    for seed in range(20):
        drawn.schedule = Schedule(seed)
        assert obj.upload(DATA[:2_000], part_size=1_000, max_concurrency=2).verified == "head"
        assert obj.head().checksum_type == "crc32c"
    obj.delete()


def test_the_same_seed_is_the_same_run(cluster: mock.Cluster, drawn: DrawnWire) -> None:
    """Requests in the same order, so that a failure can be looked at."""
    seen = []
    for _ in range(2):
        obj, end = run(cluster, drawn, 42)
        seen.append([(wire.kind, wire.part, wire.direct) for wire in drawn.wires])
        check(cluster, drawn, obj, end)
    assert seen[0] == seen[1]
