"""A token that cannot be shown by accident."""

from __future__ import annotations

from typing import NoReturn

from ..errors import UsageError


class Secret:
    """Holds a token. repr, str and format show `***`, pickling raises; `reveal()` is for the one place that sends
    it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str):
        # http.client's classic: a line break in a header value starts a header of the attacker's choice.
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise UsageError(
                "the token is empty or has characters that cannot stand in a header (its value is not shown)"
            )
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not pickle: hand tokens to other processes on purpose, not by accident")
