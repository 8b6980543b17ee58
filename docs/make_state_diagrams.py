"""Draws docs/state-diagrams.md, and the diagrams in docs/reliability.md, from the tables in fastmpu/ais/states.py.

Run it after a change there: `python docs/make_state_diagrams.py`. tests/ais/test_states.py fails if a page is stale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from fastmpu.ais.states import PART_MOVES, UPLOAD_MOVES, PartState, UploadState

HEAD = """\
# The states of an upload and of its parts

Drawn by `docs/make_state_diagrams.py` from the tables in `fastmpu/ais/states.py`; do not edit. What is not drawn cannot
happen: the code looks moves up in the tables, and one that is not there is an error. Why they are as they are is in
[reliability.md](reliability.md).
"""

PART = """
## A part

It is sent when it is planned, and only then. A part that is acknowledged has no way on at all, since AIStore deletes
a part that is sent again (H1). A part of unknown fate has two, and both go through the gap probe (H8).
"""

UPLOAD = """
## An upload

One `complete`. Without an answer to it there is no second one (H5) and no abort: only the object itself, which proves
that it was done. What does not prove it is left as it is, and the object is uploaded again under a new upload id.
"""


def diagram(moves: Mapping[Any, Mapping[Any, Any]], start: Enum) -> str:
    """One table as a Mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start.name}"]
    lines += [f"    {state.name}: {state.name} ({state.value})" for state in moves]
    for state, row in moves.items():
        for event, after in row.items():
            lines.append(f"    {state.name} --> {after.name}: {event.value}")
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join([*lines, "```", ""])


def page() -> str:
    """The whole page."""
    return (
        HEAD
        + PART
        + "\n"
        + diagram(PART_MOVES, PartState.PLANNED)
        + UPLOAD
        + "\n"
        + diagram(UPLOAD_MOVES, UploadState.NEW)
    )


def embedded(text: str) -> str:
    """A page of one's own with its diagrams redrawn: each between two comments, "states of ..." and "end of states"."""
    drawn = {
        "a part": diagram(PART_MOVES, PartState.PLANNED),
        "an upload": diagram(UPLOAD_MOVES, UploadState.NEW),
    }
    return _PLACE.sub(lambda place: f"{place[1]}\n{drawn[place[2]]}{place[3]}", text)


_PLACE = re.compile(r"(<!-- states of (.*?),.*? -->)\n.*?(<!-- end of states -->)", re.DOTALL)

if __name__ == "__main__":
    docs = Path(__file__).parent
    (docs / "state-diagrams.md").write_text(page(), encoding="utf-8")
    reliability = docs / "reliability.md"
    reliability.write_text(embedded(reliability.read_text(encoding="utf-8")), encoding="utf-8")
