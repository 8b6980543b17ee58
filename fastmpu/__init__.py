"""Uploads large files to NVIDIA AIStore by multipart upload: one pass, no copies, proved at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import errors
from ._plan import PartRange, Plan, plan_parts
from ._upload import PartReceipt, ProgressEvent, Receipt, RetryPolicy, UploadOptions, upload
from ._version import __version__
from .ais import Bucket, Client, MultipartUpload, Object, ObjectProps, ObjectReader, Secret, Timeouts
from .errors import FastMPUError

if TYPE_CHECKING:
    from . import mock

logging.getLogger("fastmpu").addHandler(logging.NullHandler())

__all__ = [
    "Bucket",
    "Client",
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
    "Timeouts",
    "UploadOptions",
    "__version__",
    "errors",
    "mock",
    "plan_parts",
    "upload",
]


def __getattr__(name: str) -> Any:
    """`fastmpu.mock`, imported when it is first asked for: uploads do not need it."""
    if name == "mock":
        from importlib import import_module

        return import_module(".mock", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
