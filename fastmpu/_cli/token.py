"""Where the command gets its token from, if `--token-file` says so: never from its arguments, which others can see."""

from __future__ import annotations

import sys

from ..ais.credentials import TokenFile, TokenSource, token_in
from ..ais.secret import LONGEST, Secret
from ..errors import UsageError

Token = Secret | TokenSource | None

OPTION = "--token-file"


def token_of(path: str | None) -> Token:
    """None leaves it to the environment. A file is read now, so that a wrong name ends the command before it begins,
    and again when the token in it is refused. UsageError without a token."""
    if path is None:
        return None
    if path == "-":
        return _from_stdin()
    file = TokenFile(path, OPTION)
    file()
    return file


def _from_stdin() -> Secret:
    # Bytes, as a decoder's error would show what it stumbled over.
    token = Secret.hold(token_in(sys.stdin.buffer.readline(2 * LONGEST).decode(errors="replace")))
    try:
        token.check()
    except UsageError as error:
        raise UsageError(f"{OPTION} -: the first line of standard input: {error}") from None
    return token
