"""A complete without an answer may still be carried out, long after the client has given it up."""

from __future__ import annotations

import pytest

from bench.fault_cases import Case
from bench.judge import judge

LATE = "stall_at(op=complete, byte=end, ms=900)"


def test_a_late_complete_of_the_same_bytes_does_no_harm() -> None:
    """The object is stored again, by an older upload of the same source: GET is the source, before and after."""
    verdict = judge(Case(faults=(LATE,)))
    assert (verdict.outcome, verdict.bad) == ("success", [])


@pytest.mark.parametrize("damage", ["flip_bit(op=part, part=3, byte=70)", "cleanup_now(op=part, part=1)"])
def test_a_late_complete_of_damaged_parts_does_not_replace_the_good_object(damage: str) -> None:
    """What was given up stays given up: success is not followed by a loss when the old complete ends."""
    verdict = judge(Case(faults=(damage, LATE)))
    assert verdict.bad == []
