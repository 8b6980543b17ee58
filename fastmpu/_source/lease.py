"""A read lease: the kernel holds back whoever wants to write to the file, or truncate it, until we let go.

It is granted only while nobody has the file open for writing, and to its owner only (or CAP_LEASE). When someone comes,
the kernel makes them wait in `open` or `truncate` and sends us a signal; after /proc/sys/fs/lease-break-time (45 s) it
goes on without us. We ask with F_GETLEASE (0.2 us) instead of handling a signal, which Python could only do in the main
thread.

The lease belongs to the open file description, that is, to the `os.open` that made it: it survives dup (mmap makes one)
and ends with F_UNLCK or with the last descriptor and map.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from typing import Final

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger("fastmpu")

_WHY: Final = {
    errno.EAGAIN: "a process has it open for writing",
    errno.EACCES: "it belongs to another user",
    errno.EINVAL: "its file system has none",
}


class LeaseRefusedError(Exception):
    """No lease is to be had; the message is the reason. Never leaves this package."""


class Lease:
    """A read lease on `fd`, which must be open for reading only. The fd stays its opener's."""

    def __init__(self, fd: int) -> None:
        if sys.platform != "linux":
            raise LeaseRefusedError("only Linux has read leases")
        self._fd = fd
        self._process = os.getpid()
        try:
            # Before each F_SETLEASE, since letting go resets it. The signal of a break would else be SIGIO, which ends
            # a process that does not handle it; SIGURG is ignored unless someone asks for it.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            raise LeaseRefusedError(_WHY.get(error.errno or 0, error.strerror or str(error))) from error

    def is_intact(self) -> bool:
        """False from the moment someone waits to write. The bytes stand still until `release`, or for 45 s. False, too,
        where that cannot be told."""
        if sys.platform != "linux":
            return False
        try:
            return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        except OSError:
            return False

    def release(self) -> None:
        """Let the writer in. Every map must be closed by now. Not in a forked child: it is the parent's lease, too."""
        if sys.platform == "linux" and os.getpid() == self._process:
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except OSError as error:
                # EAGAIN: the kernel was tired of waiting and has taken it. Anything else: it ends with the descriptor.
                if error.errno != errno.EAGAIN:
                    _log.info("a read lease could not be given back before its file is closed: %s", error)
