"""Signed redirects: the proxy vouches for what it sends to a target (protocol 1.5, active in AIStore from v5.1).

A signature covers the method, the decoded path, the proxy's id, the version of the cluster map, the length of the body
*as the proxy was told it*, and a number used once. It covers neither query nor body nor time, and nobody remembers the
numbers. So a redirect holds for any part of equal size of the same object, and for nothing else: one that was fetched
with `Content-Length: 0` is refused where the part itself goes.

AIStore signs with Ed25519; so does this, if the package `cryptography` is there. Without it a stand-in makes signatures
of the same length by HMAC-SHA-512, and publishes a key that verifies nothing: to clients both are opaque.

Threads: any. The counter of numbers is the only thing that changes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import string
from collections.abc import Callable
from itertools import count

from fastmpu.mock.answers import Refusal
from fastmpu.mock.heads import Request

__all__ = ["Signer", "base_36"]

_SIGNATURE_LENGTH = 86  # characters of 64 bytes in base64url without padding
_DIGITS = string.digits + string.ascii_lowercase


class Signer:
    """The key of the proxy, and both sides of its use."""

    def __init__(self) -> None:
        self._sign, self._is_signed, public = _keys()
        self.verifying_key = base64.b64encode(public).decode()  # as the cluster map tells it
        self._numbers = count(secrets.randbits(16))

    def query(self, request: Request, proxy_id: str, map_version: int) -> list[tuple[str, str]]:
        """What a redirect's query says beside its marker."""
        number = next(self._numbers)
        signature = self._sign(_payload(request, proxy_id, map_version, number))
        text = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        return [("vpams", base_36(map_version)), ("x", base_36(number)), ("u", text)]

    def check(self, request: Request, proxy_id: str, map_version: int) -> None:
        """Refuse a request that comes with a redirect's marker, but not with our signature on it."""
        query = request.query
        text, given = query.value("u"), query.value("pid")
        signed_version, number = _from_base_36(query.value("vpams")), _from_base_36(query.value("x"))
        if not text:
            raise Refusal(401, f"missing signature [smapVer {signed_version} vs Smap v{map_version}]")
        if len(text) != _SIGNATURE_LENGTH:
            raise Refusal(401, f"invalid signature length: {len(text)}")
        try:
            signature = base64.b64decode(text + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(401, f"invalid signature encoding: {error}") from error
        if given != proxy_id:
            reason = f"node {given} not present in the Smap v{map_version}"
            raise Refusal(401, f"cannot verify request: {reason}, smapVer={signed_version}")
        if not self._is_signed(_payload(request, given, signed_version, number), signature):
            raise Refusal(401, "node signature verification failed")


def base_36(number: int) -> str:
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)) or "0"


def _from_base_36(text: str) -> int:
    """The number, as 8 bytes hold it; 0 for what is none."""
    try:
        return int(text, 36) & ((1 << 64) - 1)
    except ValueError:
        return 0


def _payload(request: Request, proxy_id: str, map_version: int, number: int) -> bytes:
    texts = "".join(f"{text}\0" for text in (request.method, request.path, proxy_id))
    numbers = (map_version, max(request.length, 0), number)
    return texts.encode("utf-8", "surrogateescape") + b"".join(one.to_bytes(8, "big") for one in numbers)


def _keys() -> tuple[Callable[[bytes], bytes], Callable[[bytes, bytes], bool], bytes]:
    """How to sign, how to tell, and the public key."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        return _stand_in_keys()
    private = Ed25519PrivateKey.generate()
    public = private.public_key()

    def is_signed(message: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return private.sign, is_signed, public.public_bytes_raw()


def _stand_in_keys() -> tuple[Callable[[bytes], bytes], Callable[[bytes, bytes], bool], bytes]:
    secret = os.urandom(32)

    def sign(message: bytes) -> bytes:
        return hmac.digest(secret, message, hashlib.sha512)

    def is_signed(message: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(sign(message), signature)

    return sign, is_signed, os.urandom(32)
