"""Bearer tokens as AIStore's proxies check them: who is it, and may they (protocol 1.5).

A token is taken from `Authorization: Bearer ...`, else from `X-Amz-Security-Token`. Refused with 401: none, and one
that is unknown, expired or revoked - in words that repeat the token, as AIStore does. Refused with 403: one that lacks
the permission. Permissions have AIStore's names; "ro", "rw" and "su" stand for the usual sets. Targets check no tokens:
they only insist on a redirect's marker (see `target`).

Here a token is any string, not a JWT: clients do not look into it.

Threads: any. The table has one lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fastmpu.mock.answers import Refusal
from fastmpu.mock.heads import Request
from fastmpu.mock.names import Bck

__all__ = ["PERMISSIONS", "Tokens"]

_READ = ("GET", "HEAD-OBJECT", "HEAD-BUCKET", "LIST-OBJECTS", "LIST-BUCKETS", "SHOW-CLUSTER")
_WRITE = ("PUT", "DELETE-OBJECT", "CREATE-BUCKET", "DESTROY-BUCKET")
_ADMIN = ("UPDATE-OBJECT", "PATCH")
PERMISSIONS = (*_READ, *_WRITE, *_ADMIN)
_SETS = {"ro": _READ, "rw": (*_READ, *_WRITE), "su": PERMISSIONS}
_WITHOUT_BUCKET = ("LIST-BUCKETS", "SHOW-CLUSTER")


@dataclass(frozen=True)
class _Grant:
    user: str
    permissions: tuple[str, ...]
    buckets: frozenset[str] | None  # None: all
    ends: float | None  # monotonic seconds
    revoked: bool = False


class Tokens:
    """The tokens that the proxy knows. They may be added, revoked and expired while the cluster runs."""

    def __init__(self, *tokens: str) -> None:
        """Each of the tokens may do everything; `add` makes others."""
        self._lock = threading.Lock()
        self._grants: dict[str, _Grant] = {}
        for token in tokens:
            self.add(token)

    def __repr__(self) -> str:
        return f"<Tokens {len(self._grants)}>"

    @property
    def first(self) -> str | None:
        """The token that was added first."""
        return next(iter(self._grants), None)

    def add(
        self,
        token: str,
        *,
        allow: str | Iterable[str] = "su",
        buckets: Iterable[str] | None = None,
        lifetime: float | None = None,
        user: str = "user",
    ) -> None:
        """Make a token known, or change it. `allow`: "ro", "rw", "su" or permissions by name; `lifetime` in seconds."""
        names = (allow,) if isinstance(allow, str) else tuple(allow)
        permissions: list[str] = []
        for name in names:
            if name not in _SETS and name not in PERMISSIONS:
                raise ValueError(f"a permission is one of {', '.join((*_SETS, *PERMISSIONS))}, not {name!r}")
            permissions += _SETS.get(name, (name,))
        if not token or token.split() != [token]:
            raise ValueError("a token is a string without spaces")
        within = None if buckets is None else frozenset(buckets)
        ends = None if lifetime is None else time.monotonic() + lifetime
        with self._lock:
            self._grants[token] = _Grant(user, tuple(permissions), within, ends)

    def revoke(self, token: str) -> None:
        """From now on the token is refused as revoked. KeyError if it is not known."""
        with self._lock:
            self._grants[token] = replace(self._grants[token], revoked=True)

    def expire(self, token: str) -> None:
        """From now on the token is refused as expired. KeyError if it is not known."""
        with self._lock:
            self._grants[token] = replace(self._grants[token], ends=time.monotonic())

    def check(self, request: Request, permission: str, bck: Bck | None = None) -> None:
        """Refuse a request whose token is missing, invalid, or not allowed to do this (to this bucket)."""
        grant = self._grant(request)
        where = f"bucket {bck}, " if bck else ""
        if permission not in grant.permissions or (
            permission not in _WITHOUT_BUCKET and grant.buckets is not None and bck and bck.name not in grant.buckets
        ):
            granted = ",".join(grant.permissions)
            detail = f"[user {grant.user}, {where}granted({granted})]"
            raise Refusal(403, f"user `{grant.user}` has insufficient permissions: {detail}")

    def _grant(self, request: Request) -> _Grant:
        scheme, _, token = request.header("authorization").partition(" ")
        header = "Authorization"
        if scheme != "Bearer" or not token:
            header, token = "X-Amz-Security-Token", request.header("x-amz-security-token")
        if not token:
            raise Refusal(401, "token required")
        with self._lock:
            grant = self._grants.get(token)
        if grant is None:
            reason = "token signature is invalid"
        elif grant.revoked:
            reason = "token revoked"
        elif grant.ends is not None and time.monotonic() >= grant.ends:
            reason = "token expired"
        else:
            return grant
        raise Refusal(401, f'invalid token from header "{header}": invalid token [err: {reason}]: {token}')
