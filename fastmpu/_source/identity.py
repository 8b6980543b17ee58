"""Is the open file still the one, with the contents, that the upload began with? Answered from `fstat` alone.

What it cannot see: an edit that leaves size, mtime and ctime as they were. That takes a clock set back, an edit within
the same tick of the kernel's clock (up to 10 ms) as the last one before we opened the file, or a writer through a
shared map whose pages were not written back yet. On network file systems attributes may be stale for a minute.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .._sizes import format_size


class Identity(NamedTuple):
    """What is compared, from one `fstat`; times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    links: int

    @classmethod
    def of(cls, fd: int) -> Identity:
        """OSError as from fstat; ESTALE where a network file system has lost the file."""
        return cls.told(os.fstat(fd))

    @classmethod
    def told(cls, status: os.stat_result) -> Identity:
        return cls(
            status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_nlink
        )

    def only_relinked(self, now: Identity) -> bool:
        """Only its names became more or fewer (unlinked, replaced by a rename, linked), which moves ctime too."""
        return now.links != self.links and now._replace(links=self.links, ctime_ns=self.ctime_ns) == self

    def change(self, now: Identity) -> str | None:
        """What differs, in words that name the field; None if nothing does."""
        if now.size < self.size:
            return f"size: it was truncated from {_bytes(self.size)} to {_bytes(now.size)}"
        if now.size > self.size:
            return f"size: it grew from {_bytes(self.size)} to {_bytes(now.size)}"
        if (now.inode, now.device) != (self.inode, self.device):
            return f"inode: it was {self.inode} on device {self.device} and is {now.inode} on device {now.device}"
        if now.mtime_ns != self.mtime_ns:
            return f"mtime: it was written to, or touched (moved by {(now.mtime_ns - self.mtime_ns) / 1e9:+.3f} s)"
        if now != self:
            return "ctime: its name or permissions changed, or it was edited and its mtime put back"
        return None


def _bytes(count: int) -> str:
    return f"{count} bytes ({format_size(count)})" if count >= 1024 else f"{count} bytes"
