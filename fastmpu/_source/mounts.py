"""On what kind of file system does an open file live? Linux tells; elsewhere the answer is None."""

from __future__ import annotations

import os
from typing import Final

# Where a read lease really keeps every writer away, and where a map shows the same page cache that `read` uses. Network
# and user-space file systems (NFS, CIFS, FUSE, 9p, Ceph, Lustre, ...) change behind the kernel's back: a lease there,
# if one is granted at all, says nothing about other hosts. ZFS is local, but keeps its own cache: a map would be a
# second copy of the file in memory, and slower than reading.
LOCAL: Final = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs"})


def file_system_of(fd: int, mountinfo: str | None = None) -> str | None:
    """The type of the mount that `fd` was opened through, as `ext4`; None if that cannot be told.

    By mount id, not by `st_dev`: btrfs subvolumes and files on overlay report device numbers that no mount has.
    `mountinfo` replaces the text of /proc/self/mountinfo, for tests.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8", errors="replace") as lines:
            mount_id = next((line.split()[1] for line in lines if line.startswith("mnt_id:")), None)
        if mountinfo is None:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as text:
                mountinfo = text.read()
    except OSError:
        return None
    for line in mountinfo.splitlines():
        # id, parent, device, root, mount point, options, any number of tags, "-", type, ... (proc(5)); blanks in paths
        # are written \040.
        fields = line.split(" ")
        if fields[0] == mount_id and "-" in fields[6:]:
            kind = fields[fields.index("-", 6) + 1 :]
            return kind[0] if kind else None
    return None


def file_system_at(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str | None:
    """The same for a path, which is not opened for that: no lock can go in the name of its descriptor, and nothing is
    waited for."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError, AttributeError):  # the last: not on Linux
        return None
    try:
        return file_system_of(fd)
    finally:
        os.close(fd)


def is_local(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bool:
    """Whether opening and examining a file there waits for a disk at most, and never for another host; False where that
    cannot be told."""
    return file_system_at(path) in LOCAL
