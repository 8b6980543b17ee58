"""Run as a program: an upload that stands still until a signal comes. `slow_upload.py ENDPOINT URI FILE [ENGINE]`

It says "stuck" on stdout when the first body is under way. What happens to the signal is fastmpu's, and Python's.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from interposer import Forward, Interposer

import fastmpu


def main() -> None:
    endpoint, uri, source, engine = sys.argv[1:]
    tap = Interposer()

    def stand_still(request: httpx.Request, forward: Forward) -> httpx.Response:
        os.write(1, b"stuck\n")  # whole, though several threads say so
        cancel = request.extensions["cancel"]
        while not cancel.is_set():  # a network that takes nothing; the transport looks at this flag, too
            time.sleep(0.01)
        return forward(request)

    tap.on("part", stand_still)
    with fastmpu.Client(endpoint, transport=tap) as client:
        fastmpu.upload(source, uri, client=client, engine=engine, part_size=1000, max_concurrency=3)


if __name__ == "__main__":
    main()
