"""Where requests get their token from: a fixed one, or a function that is asked again when the cluster refuses one.

Used by any number of threads. The lock is held while the function runs: whoever else was refused waits for its answer
instead of asking as well.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from .._transport import unhindered
from ..errors import UsageError
from .secret import LONGEST, Secret

TokenSource = Callable[[], "str | Secret"]
"""Returns a valid token, as of now. One call at a time, in the thread that needs it, or in another where that one has
more to do; what it raises reaches the caller of the request as it is."""

TOKEN_VARIABLE: Final = "AIS_AUTHN_TOKEN"
TOKEN_FILE_VARIABLE: Final = "AIS_AUTHN_TOKEN_FILE"


_OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


class LooseTokenFileWarning(UserWarning):
    """Others than its owner may read or write the file that a token comes from."""


def held(given: object) -> Any:
    """What `Client(token=)` was given, with a bare string out of sight. To be called before anything can raise."""
    return given if given is None or callable(given) else Secret.hold(given)


class Credentials:
    """`given`: None for no token at all. UsageError for a token that cannot be sent."""

    def __init__(self, given: Secret | TokenSource | None):
        self._source = None if given is None or isinstance(given, Secret) else given
        self._secret = given if isinstance(given, Secret) else None
        if self._secret is not None:
            self._secret.check()
        self._lock = threading.Lock()
        self._asking: int | None = None

    @classmethod
    def of(cls, given: Any, environment: Mapping[str, str] = os.environ) -> Credentials:
        """What `held` made of the argument, else `AIS_AUTHN_TOKEN`, else the file that `AIS_AUTHN_TOKEN_FILE` names:
        read now, so that a wrong name is known at once, and again when the token in it is refused."""
        if given is None and environment.get(TOKEN_VARIABLE):
            given = Secret.hold(environment[TOKEN_VARIABLE])
        if given is None and environment.get(TOKEN_FILE_VARIABLE):
            given = TokenFile(environment[TOKEN_FILE_VARIABLE])
            made = cls(given)
            made.current()
            return made
        return cls(given)

    def __repr__(self) -> str:
        return "<Credentials>" if self else "<Credentials none>"

    def __bool__(self) -> bool:
        return self._source is not None or self._secret is not None

    def current(self) -> Secret | None:
        """The token to send; the function is asked for the first one here."""
        return self._secret or self.renewed(None)

    def renewed(self, refused: Secret | None) -> Secret | None:
        """The token to send instead of the `refused` one; that one itself if there is no other.

        Of many threads that were refused at once, one asks; the others get its answer.
        """
        source = self._source
        return refused if source is None else unhindered(partial(self._ask, source, refused))

    def _ask(self, source: TokenSource, refused: Secret | None) -> Secret | None:
        this_thread = threading.get_ident()
        if self._asking == this_thread:
            raise UsageError("the function that returns tokens uses the very client that it is asked by")
        with self._lock:
            if self._secret is refused:
                self._asking = this_thread
                try:
                    fresh = Secret.hold(source())
                finally:
                    self._asking = None
                fresh.check()
                if refused is None or not fresh.is_same(refused):
                    self._secret = fresh
            return self._secret

    def hide(self, text: str) -> str:
        """`text` without the token that was sent last."""
        secret = self._secret
        return text if secret is None else secret.hide(text)

    def hide_bytes(self, data: bytes) -> bytes:
        secret = self._secret
        return data if secret is None else secret.hide_bytes(data)


class TokenFile:
    """The token in a file: the text itself, or JSON as AIStore's own command writes it, {"token": "..."}. Warns, once,
    if others may read or write it. `told` is who named it."""

    def __init__(self, path: str, told: str = TOKEN_FILE_VARIABLE):
        self._path = path
        self._told = told
        self._looked = False

    def __repr__(self) -> str:
        return f"TokenFile({self._path!r})"

    def __call__(self) -> Secret:
        try:
            found = Secret.hold(self._read())
        except OSError as error:
            raise UsageError(f"{self._told}={self._path!r}: {error.strerror}") from None
        try:
            found.check()
        except UsageError as error:
            raise UsageError(f"{self._told}={self._path!r}: {error}") from None
        return found

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="replace") as file:
            if not self._looked:
                self._looked = True
                self._warn(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            return token_in(file.read(2 * LONGEST))

    def _warn(self, mode: int) -> None:
        if mode & _OTHERS and os.name == "posix":
            warnings.warn(
                f"{self._told}={self._path!r} has mode {mode:04o}: others may read or write it; chmod 600",
                LooseTokenFileWarning,
                stacklevel=10,  # who makes the client
            )


def token_in(text: str) -> str:
    """Of a token's file. Never raises ValueError: such errors carry the text they stumbled over."""
    text = text.strip()
    if not text.startswith("{"):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    token = value.get("token")
    return token if isinstance(token, str) else ""
