"""The one token of all tests, and how to find it again: nothing that a test lets be seen may hold a piece of it.

Tests that need several tokens make them of this one. `conftest.py` looks through every report.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CANARY: Final = "canary.eyJhbGciOiJIUzI1NiJ9.0123456789abcdef-_~+/=="
# A cut one is a leak as well: whatever is as long as two of these holds one whole.
_LENGTH: Final = 12
PIECES: Final = tuple(CANARY[at : at + _LENGTH] for at in range(0, len(CANARY) - _LENGTH + 1, _LENGTH))


def holds_canary(text: str) -> bool:
    return any(piece in text for piece in PIECES)


def leaks(sections: Iterable[tuple[str, str]]) -> list[str]:
    """The names of those sections, (name, text), in which it is seen."""
    return [name for name, text in sections if holds_canary(text)]
