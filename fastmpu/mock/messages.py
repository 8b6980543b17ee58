"""JSON that clients send: control messages and what is in them, decoded as strictly as AIStore does (protocol 3, 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastmpu.mock.answers import Refusal

__all__ = ["Message", "decode_failure", "fields_of", "parse_duration", "parse_message"]

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SHOWN = 64


@dataclass(frozen=True)
class Message:
    """`{"action": ..., "name": ..., "value": ...}`."""

    action: str
    name: str
    value: Any


def parse_message(body: bytes, node: str) -> Message:
    """The control message in a body; refused with 400 if it is none."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _unmarshal_failure(node, "control message", body, str(error)) from error
    if not isinstance(decoded, dict):
        raise _unmarshal_failure(node, "control message", body, "expected an object")
    action, name = decoded.get("action") or "", decoded.get("name") or ""
    if not isinstance(action, str) or not isinstance(name, str):
        raise _unmarshal_failure(node, "control message", body, "action and name are strings")
    return Message(action, name, decoded.get("value"))


def fields_of(value: Any, known: Mapping[str, type], node: str) -> dict[str, Any]:
    """An object's fields, each with its zero value if absent; refused with 400 if one is unknown or of another type."""
    if not isinstance(value, dict):
        raise decode_failure(node, value, "expected an object")
    for key, item in value.items():
        if key not in known:
            raise decode_failure(node, value, f"found unknown field: {key} (ReadObject)")
        if item is not None and type(item) is not known[key]:
            raise decode_failure(node, value, f"field {key} is of another type")
    return {key: type_() if value.get(key) is None else value[key] for key, type_ in known.items()}


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as "1m30s"; ValueError if it is none."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a duration: {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def decode_failure(node: str, value: Any, reason: str) -> Refusal:
    return _unmarshal_failure(node, "value", json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), reason)


def _unmarshal_failure(node: str, what: str, text: bytes, reason: str) -> Refusal:
    shown = text[:_SHOWN].decode("utf-8", "replace")
    return Refusal(400, f"{node}: failed to unmarshal {what} ({shown}), err: {reason}")
