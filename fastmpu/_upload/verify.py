"""Is the object there, and is it what was sent?

`size`: HEAD shows our size. `head`: and our checksum: the cluster received the bytes that we hashed, in order; it does
not prove that they can all be read (protocol H11), which is why nothing is ever sent twice. `read`: the object was read
back and hashed. `none`: nothing is known but the cluster's 200.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .._checksum import new_checksum
from .._transport import pause
from ..ais import Object, ObjectProps
from ..ais.failure import Failure, classify, facts_of
from ..ais.object import Put
from ..errors import (
    Cancelled,
    ClusterError,
    ConnectFailedError,
    FastMPUError,
    IntegrityError,
    ObjectNotFoundError,
    ResponseTimeoutError,
    TransportError,
)
from .cancel import CancelFlag
from .receipt import PartReceipt
from .retry import RetryPolicy

logger = logging.getLogger("fastmpu")

T = TypeVar("T")


@dataclass(frozen=True)
class Expected:
    """What the object must be: `size` bytes with `checksum` ("crc32c:e3069283", or "" if none was computed).

    By `parts` and `upload_id`, or else by `version`, an object is known to be the one that this upload made.
    """

    size: int
    checksum: str
    upload_id: str = ""
    parts: int = 0
    version: str = ""


@dataclass(frozen=True)
class Stored:
    """An object that the cluster says it has. `doubtful`: parts that have to be looked at one by one."""

    expected: Expected
    upload_id: str = ""
    parts: tuple[PartReceipt, ...] = ()
    doubtful: tuple[PartReceipt, ...] = ()
    checked: Put | None = None
    """What stored it, and proves it as well as a HEAD could if that was the owner of the name."""


def verify(target: Object, expected: Expected, level: str) -> str:
    """The level that was reached; IntegrityError if the object differs. One HEAD, through the proxy, or one GET."""
    if level == "none":
        return "none"
    try:
        props = target.head()
    except ObjectNotFoundError as error:
        raise _differs(target, expected, "no object at all", error) from error
    if props.size != expected.size:
        raise _differs(target, expected, f"{props.size} bytes")
    if level == "size" or not expected.checksum:
        return "size"
    if level == "head" and _proved_by(props, target, expected):
        return "head"
    _read_back(target, expected)
    return "read"


def is_there(target: Object, expected: Expected) -> bool:
    """Whether a HEAD shows it; False also if nothing can be learned."""
    try:
        verify(target, expected, "head")
    except FastMPUError as error:
        logger.info("%s: not confirmed yet: %s", target.uri, error)
        return False
    return True


def _proved_by(props: ObjectProps, target: Object, expected: Expected) -> bool:
    """Whether HEAD settles it; False if the cluster tells a checksum that we cannot compare with."""
    kind, _, value = expected.checksum.partition(":")
    told = props.checksum_type.replace("xxhash2", "xxhash")  # the same value under two names (protocol 4.1)
    if told == kind:
        if props.checksum_value != value:
            raise _differs(target, expected, f"{told}:{props.checksum_value}")
        return True
    if told and not expected.parts:
        return True  # checked by the cluster before it was stored; in buckets of checksum type "none" nothing is
    logger.warning("%s: the cluster tells no crc32c but %r: reading the object back instead", target.uri, told)
    return False


def _read_back(target: Object, expected: Expected) -> None:
    kind, _, value = expected.checksum.partition(":")
    try:
        size, found = _digest(target, kind)
    except TransportError:  # the network, or a hole (protocol H11): a hole is still there the second time
        try:
            size, found = _digest(target, kind)
        except TransportError as error:
            if isinstance(error, (ConnectFailedError, ResponseTimeoutError)):
                raise  # nothing was seen of the object, so nothing is said of it
            raise _differs(target, expected, f"content that breaks off: {error}", error) from error
    if size != expected.size or found != value:
        raise _differs(target, expected, f"{size} bytes, {kind}:{found} read back")


def _digest(target: Object, kind: str) -> tuple[int, str]:
    checksum = new_checksum(kind)
    size = 0
    for piece in target.get_reader():
        checksum.update(memoryview(piece))
        size += len(piece)
    return size, checksum.hexdigest()


def _differs(target: Object, expected: Expected, found: str, cause: Any = None) -> IntegrityError:
    wanted = f"{expected.size} bytes" + (f", {expected.checksum}" if expected.checksum else "")
    return IntegrityError(
        f"{target.uri} is not what was sent: expected {wanted}, found {found}. Somebody else may have written it "
        "meanwhile; do not trust it, upload it again",
        expected=wanted,
        found=found,
        upload_id=expected.upload_id or None,
        object_name=target.uri,
    )


def remove_if_ours(target: Object, expected: Expected) -> bool:
    """Delete an object that is not what was sent, unless somebody else may have written it. Whether it is gone.

    Ours: it has our size, and as many parts, or the version, that we were told.
    """
    try:
        props = target.head()
        if props.size != expected.size:
            return False
        ours = target.part_count() == expected.parts if expected.parts else props.version == expected.version
        if ours:
            target.delete()
    except ObjectNotFoundError:
        return True
    except FastMPUError as error:  # the mismatch is the news; this rides along
        logger.warning("%s: the object that differs could not be deleted: %s", target.uri, error)
        return False
    return ours


def patiently(look: Callable[[], T], retry: RetryPolicy, cancel: CancelFlag | None = None) -> T:
    """What `look` sees. Looking changes nothing, so it is tried again, also after a missing answer."""
    attempt = 1
    while True:
        try:
            return look()
        except (ClusterError, TransportError) as error:
            failure = classify(facts_of(error, of_upload=False, sent=True))
            delay = retry.delay(attempt, Failure.PASSING if failure is Failure.UNKNOWN else failure)
            if delay is None:
                raise
            if cancel is None:
                pause(delay)
            elif cancel.wait(delay):
                raise Cancelled("cancelled while waiting for another look") from error
        attempt += 1
