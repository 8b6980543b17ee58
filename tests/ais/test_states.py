"""The tables of states: what can never happen is not in them, and the page that is drawn from them is current."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from fastmpu.ais.states import (
    PART_MOVES,
    UPLOAD_MOVES,
    IllegalMoveError,
    PartEvent,
    PartState,
    UploadEvent,
    UploadState,
    move,
)

DOCS = Path(__file__).parents[2] / "docs"
TABLES = [
    pytest.param(PART_MOVES, PartState, PartEvent, PartState.PLANNED, id="part"),
    pytest.param(UPLOAD_MOVES, UploadState, UploadEvent, UploadState.NEW, id="upload"),
]


def paths(moves: Mapping[Any, Mapping[Any, Any]], start: Enum) -> Iterator[list[tuple[Any, Any, Any]]]:
    """All ways on from a state that take no move twice."""
    stack: list[list[tuple[Any, Any, Any]]] = [[]]
    while stack:
        path = stack.pop()
        yield path
        state = path[-1][2] if path else start
        for event, after in moves[state].items():
            if (state, event, after) not in path:
                stack.append([*path, (state, event, after)])


def reachable(moves: Mapping[Any, Mapping[Any, Any]], start: Enum) -> set[Any]:
    return {start, *(path[-1][2] for path in paths(moves, start) if path)}


@pytest.mark.parametrize(("moves", "states", "events", "start"), TABLES)
def test_every_state_can_be_reached(moves: Any, states: Any, events: Any, start: Enum) -> None:
    """No state and no event is there for nothing, and none is missing."""
    assert set(moves) == set(states)
    assert reachable(moves, start) == set(states)
    assert {event for row in moves.values() for event in row} == set(events)


@pytest.mark.parametrize(("moves", "states", "events", "start"), TABLES)
def test_what_is_not_in_the_table_fails_loudly(moves: Any, states: Any, events: Any, start: Enum) -> None:
    """For each of all pairs: the table's own answer, or IllegalMoveError that names both."""
    for state, event in itertools.product(states, events):
        if event in moves[state]:
            assert move(moves, state, event) is moves[state][event]
        else:
            with pytest.raises(IllegalMoveError, match=rf"{state.name} has no move for {event.name}"):
                move(moves, state, event)


def test_the_ends_are_ends() -> None:
    """A stored part stays stored; a completed or aborted upload stays that."""
    assert [state for state, row in PART_MOVES.items() if not row] == [PartState.ACKNOWLEDGED]
    assert [state for state, row in UPLOAD_MOVES.items() if not row] == [UploadState.COMPLETED, UploadState.ABORTED]


def test_only_proof_leads_back_to_sending() -> None:
    """H1: from ACKNOWLEDGED nothing leads to SENDING; from UNKNOWN only a probe that found the part missing."""
    assert PartState.SENDING not in reachable(PART_MOVES, PartState.ACKNOWLEDGED)
    back = [path for path in paths(PART_MOVES, PartState.UNKNOWN) if path and path[-1][2] is PartState.SENDING]
    assert back
    assert all(path[0] == (PartState.UNKNOWN, PartEvent.FOUND_MISSING, PartState.PLANNED) for path in back)
    starts = [state for state, row in PART_MOVES.items() if PartEvent.START in row]
    assert starts == [PartState.PLANNED]


def test_an_unanswered_complete_is_never_followed_by_another() -> None:
    """H5: two completes destroy the object. Only proof, or the end of the upload, leads on."""
    assert reachable(UPLOAD_MOVES, UploadState.UNCONFIRMED) == {
        UploadState.UNCONFIRMED,
        UploadState.COMPLETED,
        UploadState.DISCARDING,
        UploadState.ABORTED,
    }
    for path in paths(UPLOAD_MOVES, UploadState.NEW):
        events = [event for _, event, _ in path]
        if UploadEvent.UNANSWERED in events:
            later = events[events.index(UploadEvent.UNANSWERED) + 1 :]
            assert UploadEvent.COMPLETE not in later


def test_the_page_of_diagrams_is_current() -> None:
    """The pages say what the tables say: run `python docs/make_state_diagrams.py` after a change."""
    drawing = runpy.run_path(str(DOCS / "make_state_diagrams.py"))
    page = drawing["page"]()
    assert (DOCS / "state-diagrams.md").read_text(encoding="utf-8") == page
    reliability = (DOCS / "reliability.md").read_text(encoding="utf-8")
    assert reliability == drawing["embedded"](reliability)
    assert [text.count("stateDiagram-v2") for text in (page, reliability)] == [2, 2]
    for state in (*PartState, *UploadState):
        assert f"{state.name}: {state.name}" in page
