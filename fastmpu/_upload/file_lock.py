"""The kernel's advisory lock on an open file (flock), which ends with the last process that has the file open. Where
there is none, nobody is kept out. No threads."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import fcntl


def try_lock(fd: int) -> bool:
    """Whether it is ours now. It belongs to the open file: another open of the same process is kept out as well."""
    if sys.platform != "win32":
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def unlock(fd: int) -> None:
    """For everybody. To close the file would leave it to a forked child, which has a copy."""
    if sys.platform != "win32":
        fcntl.flock(fd, fcntl.LOCK_UN)
