"""The Range header of a GET (protocol 4.2)."""

from __future__ import annotations

from fastmpu.mock.answers import Refusal

__all__ = ["parse_range"]

_PREFIX = "bytes="


def parse_range(header: str, size: int, name: str) -> tuple[int, int] | None:
    """(offset, length) of the one range that AIStore serves; None for an empty list. 416 for everything else."""
    if not header.startswith(_PREFIX):
        raise Refusal(416, f'read range "{header}" is invalid (prefix)')
    listed = header.removeprefix(_PREFIX).split(",")
    parsed = [_parse_one(item.strip(), size) for item in listed if item.strip()]
    ranges = [item for item in parsed if item is not None]
    if parsed and not ranges:
        message = f"size={size}: not satisfiable range [{' '.join(listed)}]"
        raise Refusal(416, message, "ErrRangeNotSatisfiable", [("Content-Range", f"bytes */{size}")])
    if len(ranges) > 1:
        raise Refusal(416, f"cannot multi-range read {name} - operation not supported", "ErrUnsupp")
    return ranges[0] if ranges else None


def _parse_one(item: str, size: int) -> tuple[int, int] | None:
    """(offset, length); None if no byte of the object is in the range."""
    first, dash, last = (piece.strip() for piece in item.partition("-"))
    if not dash:
        raise Refusal(416, f'read range "{item}" is invalid (-)')
    if not first:
        if not _is_number(last):
            raise Refusal(416, f'read range "{item}" is invalid (no start)')
        length = min(int(last), size)
        return (size - length, length) if length else None
    if not _is_number(first):
        raise Refusal(416, f'read range "{item}" is invalid (start)')
    offset = int(first)
    if last and (not _is_number(last) or int(last) < offset):
        raise Refusal(416, f'read range "{item}" is invalid (end)')
    if offset >= size:
        return None
    return offset, min(int(last), size - 1) - offset + 1 if last else size - offset


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
