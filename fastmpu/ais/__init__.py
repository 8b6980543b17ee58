"""AIStore's words, in the shape of its own SDK: client, bucket, object, multipart upload. No threads in here."""

from __future__ import annotations

from .bucket import Bucket, BucketProps, ListEntry
from .client import Client
from .multipart import MultipartUpload, PartWriter
from .names import ObjectURI, parse_uri
from .object import Object, ObjectProps
from .reader import ObjectReader
from .secret import Secret
from .timeouts import Timeouts
from .upload_list import ListedUpload

__all__ = [
    "Bucket",
    "BucketProps",
    "Client",
    "ListEntry",
    "ListedUpload",
    "MultipartUpload",
    "Object",
    "ObjectProps",
    "ObjectReader",
    "ObjectURI",
    "PartWriter",
    "Secret",
    "Timeouts",
    "parse_uri",
]
