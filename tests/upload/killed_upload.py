"""An upload that is killed: `python killed_upload.py ENDPOINT FILE JOURNAL ENGINE EVENT WHEN`.

EVENT: the number of the journal's write at which SIGKILL comes, WHEN "before" or "after" it. 0: nobody kills it here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import fastmpu
from fastmpu._upload.journal import Journal

PART_SIZE = 64 * 1024
IN_FLIGHT = 3


def killing(write: Callable[..., Any], event: int, when: str, count: list[int]) -> Callable[..., Any]:
    def written(*arguments: Any) -> Any:
        count[0] += 1
        if (count[0], when) == (event, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = write(*arguments)
        if (count[0], when) == (event, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return written


def main(endpoint: str, path: str, journal: str, engine: str, event: str, when: str) -> None:
    count = [0]
    for name in ("add", "update", "end"):
        setattr(Journal, name, killing(getattr(Journal, name), int(event), when, count))
    fastmpu.upload(
        path,
        "ais://bucket/object",
        endpoint=endpoint,
        journal=journal,
        part_size=PART_SIZE,
        max_concurrency=IN_FLIGHT,
        engine=engine,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
