"""Where bytes come from: files, and memory that the caller owns. Nothing here knows a network or starts a thread."""

from .base import HASH_WINDOW, PartReader, Source
from .buffer import Buffer
from .mounts import is_local
from .resolve import resolve

__all__ = ["HASH_WINDOW", "Buffer", "PartReader", "Source", "is_local", "resolve"]
