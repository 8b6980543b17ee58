"""What a failed request means: one total function of the facts, and nothing about what to do next (that is a policy's).

The facts: which step it was, whether a byte of it reached the kernel, and what was answered. Only AIStore's own answer,
known by its error JSON, proves that its handler is over; a gateway's 502 does not, an end of the connection does not
(protocol H2, H4; design: "When is an attempt over").
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ..errors import CertificateError, ClusterError, FastMPUError, TransportError, UploadNotFoundError


class Failure(Enum):
    NEVER_PROCESSED = "nothing of it can have been processed: it may be sent again"
    PASSING = "AIStore refused it for now, and its handler is over: it may be sent again"
    UNKNOWN = "nobody knows whether it was processed, or still is"
    UPLOAD_LOST = "the cluster does not know the upload: start again under a new upload id"
    FATAL = "it was refused for good, and nothing of it is under way"


class Answer(Enum):
    """Who said what, as far as it matters here."""

    NONE = "no answer"
    UNTRUSTED = "none, as TLS ended at a certificate before there was a request"
    STRANGE = "an answer that is not AIStore's, as a gateway's"
    UPLOAD_NOT_FOUND = "AIStore does not know the upload id"
    BAD_CHECKSUM = "AIStore got other bytes than the checksum says, and stored nothing"
    STATUS = "AIStore's error with a status"


# Of AIStore's own errors, those that another try may not meet again (protocol 2). 409: a lock held by a cold GET.
PASSING_STATUS = frozenset({409, 429, 500, 502, 503, 504})


class Facts(NamedTuple):
    """`part`: whether the step belongs to an upload id. `sent`: the kernel took at least a byte."""

    of_upload: bool
    sent: bool
    answer: Answer
    status: int = 0


def classify(facts: Facts) -> Failure:
    """Every combination has a row; the tests enumerate them."""
    if facts.answer is Answer.NONE:
        return Failure.UNKNOWN if facts.sent else Failure.NEVER_PROCESSED
    if facts.answer is Answer.UNTRUSTED:
        return Failure.FATAL
    if facts.answer is Answer.STRANGE:
        return Failure.UNKNOWN
    if facts.answer is Answer.UPLOAD_NOT_FOUND:
        return Failure.UPLOAD_LOST if facts.of_upload else Failure.FATAL
    if facts.answer is Answer.BAD_CHECKSUM:
        return Failure.PASSING
    return Failure.PASSING if facts.status in PASSING_STATUS else Failure.FATAL


def facts_of(error: FastMPUError, *, of_upload: bool, sent: bool) -> Facts:
    """The facts that an error of the tree tells. `sent` is the transport's record, for errors that do not know."""
    if isinstance(error, ClusterError):
        if not error.node:
            return Facts(of_upload, sent, Answer.STRANGE, error.status)
        if isinstance(error, UploadNotFoundError):
            return Facts(of_upload, sent, Answer.UPLOAD_NOT_FOUND, error.status)
        if error.tcode == "ErrBadCksum":
            return Facts(of_upload, sent, Answer.BAD_CHECKSUM, error.status)
        return Facts(of_upload, sent, Answer.STATUS, error.status)
    if isinstance(error, CertificateError):
        return Facts(of_upload, error.sent, Answer.UNTRUSTED)
    if isinstance(error, TransportError):
        return Facts(of_upload, error.sent, Answer.NONE)
    return Facts(of_upload, sent, Answer.STRANGE)
