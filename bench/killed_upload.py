"""An upload to be killed: `python killed_upload.py ENDPOINT FILE JOURNAL ENGINE [EVENT WHEN [SECONDS [PART_SIZE]]]`.

EVENT is the number of a write of the journal: WHEN it is "before" or "after", SIGKILL comes there; when it is "full",
that write and all later ones fail, as on a full disk. EVENT 0: nobody does anything here. SECONDS: all of the client's
clocks, for those who stop this process. At its end it has printed the receipt as JSON.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import fastmpu
from fastmpu._upload import process_pool
from fastmpu._upload.journal import Journal

process_pool.START_AFTER = 0.0  # who is killed soon is to have workers
PART_SIZE = 64 * 1024
IN_FLIGHT = 3
TARGET = "ais://bucket/object"


def meddled(write: Callable[..., Any], event: int, when: str, count: list[int]) -> Callable[..., Any]:
    def written(*arguments: Any, **more: Any) -> Any:
        count[0] += 1
        if (count[0], when) == (event, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        if when == "full" and count[0] >= event:
            raise sqlite3.OperationalError("database or disk is full")
        result = write(*arguments, **more)
        if (count[0], when) == (event, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return written


def main(
    endpoint: str,
    path: str,
    journal: str,
    engine: str,
    event: str = "0",
    when: str = "",
    seconds: str = "",
    part_size: str = str(PART_SIZE),
) -> None:
    if int(event):
        count = [0]
        for name in ("add", "update", "end"):
            setattr(Journal, name, meddled(getattr(Journal, name), int(event), when, count))
    timeouts = fastmpu.Timeouts()
    if seconds:
        clock = float(seconds)
        timeouts = fastmpu.Timeouts(clock, clock, clock, response_per_gib=0.0, fence=clock, stall_seconds=clock)
    with fastmpu.Client(endpoint, timeouts=timeouts) as client:
        receipt = fastmpu.upload(
            path,
            TARGET,
            client=client,
            journal=journal,
            part_size=part_size,
            max_concurrency=IN_FLIGHT,
            engine=engine,
            processes=2,
        )
    print(receipt.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
