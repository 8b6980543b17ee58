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
    from ._upload import (
        ClusterUpload,
        PartReceipt,
        ProgressEvent,
        Receipt,
        RetryPolicy,
        StageTimes,
        Transfer,
        UnfinishedUpload,
        Uploader,
        UploadOptions,
        abort_cluster_upload,
        abort_upload,
        cluster_uploads,
        resume,
        unfinished_uploads,
        upload,
    )
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
    **dict.fromkeys(
        (
            "ClusterUpload",
            "PartReceipt",
            "ProgressEvent",
            "Receipt",
            "RetryPolicy",
            "StageTimes",
            "Transfer",
            "UnfinishedUpload",
            "UploadOptions",
            "Uploader",
            "abort_cluster_upload",
            "abort_upload",
            "cluster_uploads",
            "resume",
            "unfinished_uploads",
            "upload",
        ),
        "._upload",
    ),
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
