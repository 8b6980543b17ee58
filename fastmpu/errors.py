"""What can go wrong, as one tree. The branches tell who can act on it.

    FastMPUError
    ├── UsageError (ValueError)          the call is wrong; nothing was sent
    │   ├── ForkError                    a client was taken into a forked process
    │   ├── InvalidNameError             a bucket, an object or a URI that AIStore would refuse or mangle
    │   └── PlanError                    sizes that cannot be an upload
    ├── SourceError (OSError)            the bytes cannot be read
    │   └── SourceChangedError           they are not those that the upload began with
    ├── TransportError (ConnectionError) no answer: .sent tells whether the cluster may have acted all the same
    │   ├── ConnectFailedError           not reached at all
    │   │   └── CertificateError         reached, and one side does not trust the other's certificate
    │   └── ResponseTimeoutError (TimeoutError)  sent, but not answered in time
    ├── JournalError                     journal="required", and it cannot be written
    ├── NotAIStoreError                  answered, but not by an AIStore
    ├── RedirectRefusedError             sent on to a place that we do not go to
    ├── ClusterError                     AIStore answered "no": .status .tcode .message .node
    │   ├── BucketNotFoundError (LookupError)
    │   ├── BucketExistsError (FileExistsError)
    │   ├── ObjectNotFoundError (FileNotFoundError)
    │   ├── UploadNotFoundError (LookupError)    the cluster does not know this upload id
    │   ├── ChecksumRefusedError         the cluster got other bytes than the checksum says
    │   ├── AuthError (PermissionError)
    │   ├── RateLimitedError
    │   ├── UnavailableError             starting, or a gateway without its server
    │   └── OutOfSpaceError
    └── UploadError                      we gave up: .upload_id .object_name, the cause is chained
        ├── PartError                    one part failed: .part_number .attempts
        │   ├── PartRepeatedError        refused: sending it again would delete it (protocol H1)
        │   └── AmbiguousPartError       sent, and nobody knows whether it was stored
        ├── ObjectExistsError (FileExistsError)  mode="create", and it is there
        ├── UploadStateError             create, complete or abort at the wrong time
        ├── UploadLostError              the cluster has forgotten the upload
        ├── RestartsExhaustedError       started again under new upload ids, and failed each time
        ├── DeadlineError (TimeoutError) not finished in time
        ├── ResumeError                  there is nothing that could go on, and resume="require"
        ├── UploadInProgressError        another job of this machine uploads the same object
        ├── IntegrityError               stored, but not what we sent: .expected .found
        └── Cancelled                    on request

Built-in classes are mixed in where callers would catch them. Server text is kept (cut, and shown escaped), a token
never.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AmbiguousPartError",
    "AuthError",
    "BucketExistsError",
    "BucketNotFoundError",
    "Cancelled",
    "CertificateError",
    "ChecksumRefusedError",
    "ClusterError",
    "ConnectFailedError",
    "DeadlineError",
    "FastMPUError",
    "ForkError",
    "IntegrityError",
    "InvalidNameError",
    "JournalError",
    "NotAIStoreError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "OutOfSpaceError",
    "PartError",
    "PartRepeatedError",
    "PlanError",
    "RateLimitedError",
    "RedirectRefusedError",
    "ResponseTimeoutError",
    "RestartsExhaustedError",
    "ResumeError",
    "SourceChangedError",
    "SourceError",
    "TransportError",
    "UnavailableError",
    "UploadError",
    "UploadInProgressError",
    "UploadLostError",
    "UploadNotFoundError",
    "UploadStateError",
    "UsageError",
]


class FastMPUError(Exception):
    """Base of everything that fastmpu raises on purpose. All of them pickle, since workers send them home."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[FastMPUError], args: tuple[Any, ...], state: dict[str, Any]) -> FastMPUError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(FastMPUError, ValueError):
    """The call is wrong. No request was sent."""


class ForkError(UsageError):
    """A client was made before a fork and used after it: parent and child would share its connections."""


class InvalidNameError(UsageError):
    """A bucket name, object name or URI that AIStore would refuse, or store under another name."""


class PlanError(UsageError):
    """Sizes that cannot be an upload: part size, part count, concurrency."""


class SourceError(FastMPUError, OSError):
    """The source cannot be read. `errno` is the system's, where it has one."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class SourceChangedError(SourceError):
    """The source changed while it was being uploaded; what was sent was given up."""


class TransportError(FastMPUError, ConnectionError):
    """There was no answer. `sent`: the kernel took at least a byte of the request, so the cluster may have acted."""

    def __init__(self, message: str, *, sent: bool):
        super().__init__(message)
        self.sent = sent


class ConnectFailedError(TransportError):
    """The node could not be reached; nothing was processed."""

    def __init__(self, message: str):
        super().__init__(message, sent=False)


class CertificateError(ConnectFailedError):
    """TLS ended at a certificate: the node's is not to be trusted, or it does not take ours, or wants one. Nothing was
    processed; there is no other try, since waiting changes no certificate."""


class ResponseTimeoutError(TransportError, TimeoutError):
    """The request went out and no answer came in time."""


class JournalError(FastMPUError):
    """The journal was asked for by `journal="required"`, and cannot be used."""


class NotAIStoreError(FastMPUError):
    """Something answered that is not an AIStore, or does not speak as one."""


class RedirectRefusedError(FastMPUError):
    """A redirect to a place that is no member of the cluster map, or of a kind that AIStore does not send."""


class ClusterError(FastMPUError):
    """AIStore answered with an error. `status` decides; `tcode` and `message` are the server's own words.

    `node` is empty where it was not AIStore that answered. `retry_after`, in seconds, comes from gateways only.
    """

    def __init__(
        self,
        summary: str,
        *,
        status: int,
        tcode: str = "",
        message: str = "",
        node: str = "",
        retry_after: float | None = None,
    ):
        super().__init__(summary)
        self.status = status
        self.tcode = tcode
        self.message = message
        self.node = node
        self.retry_after = retry_after


class BucketNotFoundError(ClusterError, LookupError):
    """The bucket does not exist."""


class BucketExistsError(ClusterError, FileExistsError):
    """The bucket exists already."""


class ObjectNotFoundError(ClusterError, FileNotFoundError):
    """The object does not exist."""


class UploadNotFoundError(ClusterError, LookupError):
    """The cluster does not know this upload id: completed, aborted, or lost with its target."""


class ChecksumRefusedError(ClusterError):
    """The cluster received other bytes than the checksum sent along says; nothing was stored."""


class AuthError(ClusterError, PermissionError):
    """The token is missing, expired or not good enough."""


class RateLimitedError(ClusterError):
    """Too many requests for this bucket."""


class UnavailableError(ClusterError):
    """The node is not ready, or a gateway has no server behind it."""


class OutOfSpaceError(ClusterError):
    """The target's disks are full."""


class UploadError(FastMPUError):
    """An upload was given up. The cause is chained; the message says what is left and what is safe to do."""

    def __init__(self, message: str, *, upload_id: str | None = None, object_name: str | None = None):
        super().__init__(message)
        self.upload_id = upload_id
        self.object_name = object_name


class PartError(UploadError):
    """A part could not be stored. `status` is the last answer's, None where there was none."""

    def __init__(self, message: str, *, part_number: int, attempts: int = 1, status: int | None = None, **upload: Any):
        super().__init__(message, **upload)
        self.part_number = part_number
        self.attempts = attempts
        self.status = status


class PartRepeatedError(PartError):
    """Refused before any byte was sent: the part is stored or on its way, and a second one would delete it."""


class AmbiguousPartError(PartError):
    """The part was sent and not answered; whether it is stored is not known, so it is not sent again."""


class ObjectExistsError(UploadError, FileExistsError):
    """`mode="create"`, and the object is there already."""


class UploadStateError(UploadError):
    """The step does not fit the upload's state, as complete before create."""


class UploadLostError(UploadError):
    """The cluster has forgotten the upload: its target restarted, or the object's owner changed."""


class RestartsExhaustedError(UploadError):
    """The object was started again under new upload ids, and each of them failed; the last failure is the cause."""


class ResumeError(UploadError):
    """An upload was to go on, and cannot: the message says why, and what to do instead."""


class UploadInProgressError(UploadError):
    """Another job of this machine uploads the same object; nothing was sent."""


class DeadlineError(UploadError, TimeoutError):
    """The upload did not finish within its deadline; it was aborted."""


class IntegrityError(UploadError):
    """The stored object is not what was sent."""

    def __init__(self, message: str, *, expected: str, found: str, **upload: Any):
        super().__init__(message, **upload)
        self.expected = expected
        self.found = found


class Cancelled(UploadError):
    """The upload was cancelled; it was aborted, or its message says why not."""
