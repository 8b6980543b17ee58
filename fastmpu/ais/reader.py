"""Reading an object back: whole, or piece by piece. Enough to prove an upload; downloads as such are the SDK's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from ..errors import TransportError, UsageError

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .messages import ObjectMessages

READ_SIZE = 1 << 20  # bytes a piece, at most


class ObjectReader:
    """Reads one object, or bytes `first`..`last` of it (both included, `last=None` to the end). Each use is a new
    request.

    A body that ends before its announced length is an error, never a short result: it is how AIStore shows a lost part
    (protocol H1).
    """

    def __init__(self, endpoint: Endpoint, messages: ObjectMessages, first: int, last: int | None):
        if first < 0 or (last is not None and last < first):
            raise UsageError(f"bytes {first} to {last}: give 0 <= first <= last")
        self._endpoint = endpoint
        self._messages = messages
        ranged = first > 0 or last is not None
        self._range = f"bytes={first}-{'' if last is None else last}" if ranged else ""

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of up to 1 MiB, in order. The connection is freed at the end, or when the iterator is closed."""
        response = self._endpoint.open(self._messages.get(self._range))
        taken = 0
        try:
            for piece in response.pieces():
                taken += len(piece)
                yield piece
        except httpx.TransportError as error:
            announced = response.headers.get("content-length", "?")
            raise TransportError(
                f"cannot get {self._messages.uri}: it broke off after {taken} of {announced} bytes: {error}", sent=True
            ) from error
        finally:
            response.close()

    def read_all(self) -> bytes:
        return b"".join(self)
