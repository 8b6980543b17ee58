"""When are the requests of a process that is gone over? (design section 4)

Its kernel ends its connections, but goes on sending what it had taken, and a target's handler lives as long as its
connection. On the same boot the kernel's own table tells: a connection that no process owns any more is listed until
the other side has ended, too. After a crash of the machine, or from another one, nothing tells: then time has to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Final

from .cancel import CancelFlag

# Seconds after the last note of a job whose connections cannot be seen.
OTHER_BOOT: Final = 180.0
POLL: Final = 0.05
_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_NOT_ALIVE: Final = frozenset(("06", "07"))  # TIME_WAIT and CLOSE (Linux, include/net/tcp_states.h)


def this_boot() -> str:
    """This boot of this kernel, and this network namespace, whose connections the table shows; "" if it cannot be
    told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return ""


def wait_until_over(boot: str, noted_at: float, ports: Iterable[int], cancel: CancelFlag) -> bool:
    """Until no request of a dead job can be under way any more; False if it was cancelled first.

    `boot` and `noted_at` (wall clock) are from its last note, `ports` the cluster's. A clock that was set back makes it
    wait for all of OTHER_BOOT.
    """
    wanted = frozenset(ports)
    until = time.monotonic() + OTHER_BOOT - max(0.0, time.time() - noted_at)
    while time.monotonic() < until:
        if is_over(boot, noted_at, wanted):
            return True
        if cancel.wait(min(POLL, max(0.0, until - time.monotonic()))):
            return False
    return not cancel.is_set()


def is_over(boot: str, noted_at: float, ports: Iterable[int]) -> bool:
    """The same, as of now."""
    if boot and boot == this_boot() and not _ownerless(frozenset(ports)):
        return True
    return time.time() - noted_at > OTHER_BOOT


def _ownerless(ports: frozenset[int]) -> bool:
    """Whether the kernel still keeps a connection to one of `ports` whose process has gone (proc_net_tcp(5))."""
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as lines:
                next(lines, None)
                for line in lines:
                    fields = line.split()
                    remote, state, inode = fields[2], fields[3], fields[9]
                    if inode == "0" and state not in _NOT_ALIVE and int(remote.rpartition(":")[2], 16) in ports:
                        return True
        except OSError:
            if table == _TABLES[0]:
                return True  # not to be seen: only time helps
    return False
