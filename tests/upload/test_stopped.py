"""Processes that are stopped, or killed one after the other: the same call again ends with a proved object.

What is done here is `python -m bench.kills`' doing, with fewer rounds and shorter clocks.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.kills import ENGINES, PARTS, Round, scene
from fastmpu._sizes import KiB, MiB

CLOCKS = 0.3  # seconds: the client's, and the mock's; a stop is three times as long


def judged(found: Round) -> None:
    assert found.wrongs == ()
    assert found.stored_twice == 0


@pytest.mark.parametrize("part_size", [64 * KiB, 2 * MiB])
@pytest.mark.parametrize("engine", ENGINES)
def test_stopped_for_longer_than_any_clock(tmp_path: Path, engine: str, part_size: int) -> None:
    """SIGSTOP, SIGCONT: it ends verified, or with an error of ours; then the same call again."""
    dice = random.Random(engine)
    with scene(tmp_path, part_size, idle_timeout=CLOCKS) as stage:
        rounds = [stage.stopped(engine, dice, 3 * CLOCKS, clocks=CLOCKS) for _ in range(3)]
    for found in rounds:
        judged(found)
        assert found.ended == "done" or found.ended.endswith("Error"), found.ended
    assert any(0 < found.begun < PARTS for found in rounds)


def test_a_worker_is_killed_and_then_its_parent(tmp_path: Path) -> None:
    """At random moments: what the worker had begun is unknown to a parent that soon is no more, either."""
    dice = random.Random(64)
    with scene(tmp_path) as stage:
        for _ in range(6):
            judged(stage.killed("process", dice, worker_first=True))
