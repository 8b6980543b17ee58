"""An answer -> a value or an error of the tree. Decides on the status; `tcode` and text only tell cases apart (protocol
2).
"""

from __future__ import annotations

import html
import io
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from .._transport import Cancelled
from ..errors import (
    AuthError,
    BucketExistsError,
    BucketNotFoundError,
    ChecksumRefusedError,
    ClusterError,
    FastMPUError,
    NotAIStoreError,
    ObjectNotFoundError,
    OutOfSpaceError,
    RateLimitedError,
    TransportError,
    UnavailableError,
    UploadNotFoundError,
)
from .messages import Message
from .request import Reply

MAX_BODY = 1 << 20  # bytes of an answer that is not an object's content or a list
SHOWN = 400  # characters of a server's words that an error shows

_XML_MESSAGE: Final = re.compile(r"<Error>.{0,200}?<Message>([^<]*)</Message>", re.DOTALL)

BUCKET_NOT_FOUND = ("ErrBckNotFound", "ErrRemoteBckNotFound")
GATEWAY = (502, 503, 504)


def read_body(reply: Reply, limit: int = MAX_BODY) -> bytes:
    """The whole body, which also sets the connection free; NotAIStoreError where it is larger than makes sense."""
    content = reply.content
    if content is None:
        content = _read(reply, limit)
    elif len(content) > limit:
        raise _too_long(limit)
    reply.keep(content)
    return content


def _read(reply: Reply, limit: int) -> bytes:
    taken = io.BytesIO()  # whose repr does not show what a server may have sent back to us
    try:
        for piece in reply.pieces():
            taken.write(piece)
            del piece
            if taken.tell() > limit:
                raise _too_long(limit)
    except (httpx.TransportError, Cancelled) as error:
        raise TransportError(f"the answer broke off after {taken.tell()} bytes: {error}", sent=True) from error
    finally:
        reply.close()
    return taken.getvalue()


def _too_long(limit: int) -> NotAIStoreError:
    return NotAIStoreError(f"an answer of more than {limit} bytes where AIStore sends a short one")


def shown(text: str) -> str:
    """A server's words as they may stand in a message: cut, and no control character reaches a terminal."""
    text = text.strip()
    text = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class ErrorBody:
    """AIStore's error JSON, from the body or, for HEAD, from `Hdr-Error`. `node` is empty if it was not AIStore's."""

    tcode: str = ""
    message: str = ""
    node: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str], body: bytes, hide: Callable[[str], str] = str) -> ErrorBody:
        """`hide` takes out what must not be repeated: AIStore's 401 has the token in its words."""
        text = headers.get("hdr-error") or body.decode("utf-8", "replace")  # AIStore may send invalid UTF-8
        text = hide(text)
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict) or "message" not in value:
            words = _XML_MESSAGE.search(text)  # of the S3 dialect (protocol 7)
            return cls(message=shown(hide(html.unescape(words[1])) if words else text))
        return cls(*(shown(str(value.get(key) or "")) for key in ("tcode", "message", "node")))


def error_of(
    message: Message, status: int, headers: Mapping[str, str], body: bytes, hide: Callable[[str], str] = str
) -> FastMPUError:
    """The error that an answer other than 2xx means."""
    error = ErrorBody.of(headers, body, hide)
    if (
        "text/html" in headers.get("content-type", "")
        and not error.node
        and status not in GATEWAY
        and message.method != "HEAD"
    ):
        return NotAIStoreError(
            f"cannot {message.about}: answered {status} with a web page, which AIStore does not; is the endpoint right?"
        )
    kind = _kind(message, status, error)
    words = error.message or "no reason given"
    summary = f"cannot {message.about}: {words} ({status} from {error.node or 'an unnamed node'})"
    return kind(
        summary,
        status=status,
        tcode=error.tcode,
        message=error.message,
        node=error.node,
        retry_after=_seconds(headers.get("retry-after", "")),
    )


def _seconds(retry_after: str) -> float | None:
    """A `Retry-After` of either form (RFC 9110, section 10.2.3); None if there is none, or none that makes sense."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
        if date.tzinfo is None:  # in the form of asctime, which is GMT in HTTP
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _kind(message: Message, status: int, error: ErrorBody) -> type[ClusterError]:
    if error.tcode == "ErrBadCksum":  # 400 for a part, 500 for an object
        return ChecksumRefusedError
    if status in (400, 404) and error.tcode in BUCKET_NOT_FOUND:  # 400 straight from a target
        return BucketNotFoundError
    if status == 404:
        if "uploadId=" in message.query:  # unknown upload, or one that a failed complete has wiped
            return UploadNotFoundError
        return ObjectNotFoundError if message.path.startswith("/v1/objects/") else BucketNotFoundError
    if status == 409 and message.path.startswith("/v1/buckets/"):
        return BucketExistsError
    kinds: dict[int, type[ClusterError]] = {
        401: AuthError,
        403: AuthError,
        429: RateLimitedError,
        502: UnavailableError,
        503: UnavailableError,
        504: UnavailableError,
        507: OutOfSpaceError,
    }
    return kinds.get(status, ClusterError)


def json_of(message: Message, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise NotAIStoreError(
            f"cannot {message.about}: the answer is not JSON ({shown(body[:80].decode('utf-8', 'replace'))!r}...); "
            "is the endpoint an AIStore?"
        ) from None
