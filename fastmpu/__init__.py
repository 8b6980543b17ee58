"""Uploads large files to NVIDIA AIStore by multipart upload: one pass, no copies, proved at the end."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - it cannot be imported any more when the interpreter is shutting down
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from ._version import __version__
from .errors import FastMPUError

if TYPE_CHECKING:
    from . import mock
    from ._plan import PartRange, Plan, plan_parts
    from ._upload.config import UploadOptions
    from ._upload.foreign import ClusterUpload, abort_cluster_upload, cluster_uploads
    from ._upload.progress import ProgressEvent
    from ._upload.receipt import PartReceipt, Receipt
    from ._upload.retry import RetryPolicy
    from ._upload.stages import StageTimes
    from ._upload.uploader import Transfer, Uploader, upload
    from ._upload.uploads import UnfinishedUpload, abort_upload, resume, unfinished_uploads
    from .ais import Bucket, Client, MultipartUpload, Object, ObjectProps, ObjectReader, Secret, Timeouts

logging.getLogger("fastmpu").addHandler(logging.NullHandler())

__all__ = [
    "Bucket",
    "Client",
    "ClusterUpload",
    "FastMPUError",
    "MultipartUpload",
    "Object",
    "ObjectProps",
    "ObjectReader",
    "PartRange",
    "PartReceipt",
    "Plan",
    "ProgressEvent",
    "Receipt",
    "RetryPolicy",
    "Secret",
    "StageTimes",
    "Timeouts",
    "Transfer",
    "UnfinishedUpload",
    "UploadOptions",
    "Uploader",
    "__version__",
    "abort_cluster_upload",
    "abort_upload",
    "cluster_uploads",
    "errors",
    "mock",
    "plan_parts",
    "resume",
    "unfinished_uploads",
    "upload",
]

# Name -> the module that has it. Imported when first asked for: httpx alone takes 40 ms, and neither `fastmpu --help`,
# nor `fastmpu.mock` or `fastmpu.errors` by themselves, need what most of these bring in.
_HOMES = {
    **dict.fromkeys(("PartRange", "Plan", "plan_parts"), "._plan"),
    "UploadOptions": "._upload.config",
    **dict.fromkeys(("ClusterUpload", "abort_cluster_upload", "cluster_uploads"), "._upload.foreign"),
    "ProgressEvent": "._upload.progress",
    **dict.fromkeys(("PartReceipt", "Receipt"), "._upload.receipt"),
    "RetryPolicy": "._upload.retry",
    "StageTimes": "._upload.stages",
    **dict.fromkeys(("Transfer", "Uploader", "upload"), "._upload.uploader"),
    **dict.fromkeys(("UnfinishedUpload", "abort_upload", "resume", "unfinished_uploads"), "._upload.uploads"),
    **dict.fromkeys(
        ("Bucket", "Client", "MultipartUpload", "Object", "ObjectProps", "ObjectReader", "Secret", "Timeouts"),
        ".ais",
    ),
}


def __getattr__(name: str) -> Any:
    """The public names that are not loaded yet."""
    if name == "mock":
        return import_module(".mock", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
