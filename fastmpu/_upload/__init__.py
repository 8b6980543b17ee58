"""One object, fast: plan, map, hash, send, complete, prove. All of fastmpu's threads are started in here."""

from __future__ import annotations

from .config import UploadOptions
from .foreign import ClusterUpload, abort_cluster_upload, cluster_uploads
from .progress import ProgressEvent
from .receipt import PartReceipt, Receipt
from .retry import RetryPolicy
from .stages import StageTimes
from .uploader import Transfer, Uploader, upload
from .uploads import UnfinishedUpload, abort_upload, resume, unfinished_uploads

__all__ = [
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
]
