"""A thousand random uploads under random faults: none is lost without a word, none hangs, none leaves anything behind.

More by hand: `python -m bench.random_uploads --n 10000`.
"""

from __future__ import annotations

import pytest

from bench.fault_cases import Case, draw
from bench.judge import by_fastmpu, judge
from bench.random_uploads import Tally, judge_seeds
from bench.sdk_job import by_sdk

BATCHES, SIZE = 40, 25


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_uploads(batch: int) -> None:
    """Success means that GET gives the source, now and when everything on the server has ended; else the error has a
    name, and nothing is left that nobody says.
    """
    tally = Tally("fastmpu")
    for verdict in judge_seeds("fastmpu", range(100_000 + batch * SIZE, 100_000 + (batch + 1) * SIZE)):
        tally.add(verdict)
    assert tally.uploads == SIZE
    assert tally.bad == []
    assert tally.outcomes["success"] > SIZE / 3  # most faults pass


def test_a_seed_is_a_case() -> None:
    """Failures can be run again: by their seed the same upload is drawn, whatever was drawn before."""
    assert [draw(seed) for seed in (7, 8)] == [draw(seed) for seed in (8, 7)][::-1]
    assert str(draw(7)) != str(draw(8))


@pytest.mark.parametrize("fault", ["lost_response(op=part, part=3)", "lost_response(op=part, part=2, how=fin)"])
@pytest.mark.filterwarnings("default")
def test_the_official_sdk_loses_an_upload_whose_answer_is_lost(fault: str) -> None:
    """Why fastmpu sends no part again without an answer: AIStore answers 200 to everything here, and the object has a
    hole. fastmpu stores the same upload under the same fault.
    """
    case = Case(size=300_000, part_size=65_536, source="bytes", faults=(fault,))
    theirs = judge(case, by_sdk, only_losses=True)
    assert theirs.outcome == "success"
    assert "a hole" in theirs.losses[0]
    ours = judge(case, by_fastmpu)
    assert (ours.outcome, ours.bad) == ("success", [])
