"""A token that cannot be shown by accident."""

from __future__ import annotations

import hmac
import re
from typing import Any, Final, NoReturn

import httpx

from ..errors import UsageError

# What a bearer token is made of (RFC 6750, section 2.1); JWTs are. No character of it is escaped in JSON or in a repr,
# so that a token which a server repeats is found again, and none can end a header line.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
LONGEST: Final = 16 * 1024  # characters; far above any JWT, far below the server's limit for a head
_SHORTEST_HIDDEN: Final = 6  # characters; a shorter one is no secret, and would be "found" in many words


class Secret:
    """Holds a token. repr, str and format show `***`, pickling raises; `reveal()` is for whoever must have it.

    Raises UsageError, which does not show it, for what is no bearer token.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str):
        self._value = value
        del value  # from this frame, which a traceback with locals would show
        self.check()

    @classmethod
    def hold(cls, given: Any) -> Secret:
        """`given`, whatever it is, unchecked. Never raises, so that no traceback has it; `check()` does."""
        if isinstance(given, Secret):
            return given
        held = cls.__new__(cls)
        held._value = given
        return held

    def check(self) -> None:
        """UsageError for what cannot be sent as a bearer token."""
        if not isinstance(self._value, str):
            kind = type(self._value).__name__
            raise UsageError(
                f"the token must be a string, a Secret or a function that returns one, not {kind} "
                "(its value is not shown)"
            )
        if not _TOKEN.fullmatch(self._value) or len(self._value) > LONGEST:
            raise UsageError(
                "the token is empty, too long, or has characters that no bearer token has (its value is not shown)"
            )

    def reveal(self) -> str:
        return self._value

    def authorize(self, headers: httpx.Headers) -> None:
        """Put it where AIStore's proxies look for it. httpx does not show that header either."""
        headers["Authorization"] = f"Bearer {self._value}"

    def field(self) -> tuple[bytes, bytes]:
        """The same for fastmpu's own transport, which shows it nowhere (sealed.py)."""
        return b"Authorization", b"Bearer " + self._value.encode()

    def hide(self, text: str) -> str:
        """`text` without the token: AIStore's 401 repeats it."""
        return text.replace(self._value, "***") if len(self._value) >= _SHORTEST_HIDDEN else text

    def hide_bytes(self, data: bytes) -> bytes:
        return data.replace(self._value.encode(), b"***") if len(self._value) >= _SHORTEST_HIDDEN else data

    def is_same(self, other: Secret) -> bool:
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not pickle: hand tokens to other processes on purpose, not by accident")
