"""One object, fast: plan, map, hash, send, complete, prove. All of fastmpu's threads are started in here."""

from __future__ import annotations

from .config import UploadOptions
from .progress import ProgressEvent
from .receipt import PartReceipt, Receipt
from .retry import RetryPolicy
from .uploader import upload
from .uploads import UnfinishedUpload, abort_upload, resume, unfinished_uploads

__all__ = [
    "PartReceipt",
    "ProgressEvent",
    "Receipt",
    "RetryPolicy",
    "UnfinishedUpload",
    "UploadOptions",
    "abort_upload",
    "resume",
    "unfinished_uploads",
    "upload",
]
