"""What the lists of SDK calls have in common: the table they go into, and small helpers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[Any, Any, Path], None]
CALLS: dict[str, Call] = {}
DATA = bytes(range(250)) * 40  # 10,000 bytes


def call(function: Call) -> Call:
    """Put a call into the table. It gets the SDK's client, a fresh bucket of its name, and a directory."""
    assert function.__name__ not in CALLS
    CALLS[function.__name__] = function
    return function


def put(bucket: Any, name: str, data: bytes = DATA) -> Any:
    obj = bucket.object(name)
    obj.get_writer().put_content(data)
    return obj


def names(entries: Any) -> list[str]:
    return [entry.name for entry in entries]
