"""What a dead worker had begun with is asked of shared memory, which its successor uses as well."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastmpu._plan import PartRange
from fastmpu._sizes import GiB
from fastmpu._source import resolve
from fastmpu._upload import process_pool
from fastmpu._upload.process_messages import TAKEN, Channel, Hash
from fastmpu._upload.process_pool import Lane, ProcessPool, WorkerDied

LONG, SHORT = Hash(PartRange(1, 0, GiB), "sha256"), Hash(PartRange(2, 0, 1), "sha256")
LATE = 0.5  # seconds for a successor to come, if it does not wait


def test_a_slow_reader_finds_what_its_own_worker_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is late to see its worker's death still learns that its ticket was begun with. Were it sent to another
    worker, a part could be stored twice, which deletes it (protocol H1), and nothing would show it.
    """
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, LONG.part.length)
    receive = Channel.receive
    slow = threading.current_thread()
    killed: list[int] = []

    def late(channel: Channel) -> Any:
        try:
            return receive(channel)
        except EOFError:
            if threading.current_thread() is slow:
                end = time.monotonic() + LATE
                while time.monotonic() < end and not any(lane.worker.process.pid not in killed for lane in taken()):
                    time.sleep(0.001)
            raise

    def taken() -> list[Lane]:
        with pool._changed:
            return list(pool._taken)

    def strike() -> None:
        while not any(pool._cells[lane.first + TAKEN] for lane in taken()):
            time.sleep(0.001)
        killed.extend(pool.pids)
        os.kill(killed[0], signal.SIGKILL)
        pool.ask(SHORT, None, None)  # by a successor

    monkeypatch.setattr(Channel, "receive", late)
    monkeypatch.setattr(process_pool, "SHARE", 0)
    with resolve(path, read="pread") as source:
        pool = ProcessPool(source, None, 1, 2)
        other = threading.Thread(target=strike)
        other.start()
        try:
            with pytest.raises(WorkerDied):
                pool.ask(LONG, None, None)
        finally:
            other.join()
            pool.close()
