"""A complete without an answer may still be carried out, long after the client has given it up."""

from __future__ import annotations

import pytest

from bench.fault_cases import Case
from bench.judge import judge

DAMAGED = "flip_bit(op=part, part=3, byte=70)"
UNANSWERED = "lost_response(op=complete, where=target)"
LATE = "stall_at(op=complete, byte=end, ms=900)"


def test_a_late_complete_of_the_same_bytes_does_no_harm() -> None:
    """The object is stored again, by an older upload of the same source: GET is the source, before and after."""
    verdict = judge(Case(faults=(LATE,)))
    assert (verdict.outcome, verdict.bad) == ("success", [])


@pytest.mark.parametrize(
    "case",
    [
        Case(faults=(DAMAGED, UNANSWERED, "status(403, op=start, nth=2)")),
        Case(faults=(DAMAGED, UNANSWERED), options={"deadline": 0.2}),
    ],
    ids=["the second try fails", "time is up"],
)
def test_what_an_unanswered_complete_has_made_of_damaged_parts_is_told(case: Case) -> None:
    """It was carried out, and nobody has verified what stands there: an error that does not say so would be read as
    "nothing was changed"."""
    verdict = judge(case)
    assert verdict.outcome != "success"
    assert verdict.bad == []
    assert verdict.counts["damaged object stands, and the error says: not verified"] == 1


@pytest.mark.parametrize("damage", ["flip_bit(op=part, part=3, byte=70)", "cleanup_now(op=part, part=1)"])
def test_a_late_complete_of_damaged_parts_does_not_replace_the_good_object(damage: str) -> None:
    """What was given up stays given up: success is not followed by a loss when the old complete ends."""
    verdict = judge(Case(faults=(damage, LATE)))
    assert verdict.bad == []
