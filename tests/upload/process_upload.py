"""Run as a program: an upload by worker processes, without `if __name__ == "__main__"`, as scripts are.

`process_upload.py ENDPOINT URI FILE [fork]`. It says "PIDS 1 2" on stdout when the first bytes are under way, and then
how it ended. With "fork" it has a child by then that has all its descriptors, and sleeps.
"""

import os
import sys
import time
from pathlib import Path

import fastmpu
from fastmpu._upload import process_pool

process_pool.SHARE = 0  # all by workers
endpoint, uri, source, *fork = sys.argv[1:]
told = False


def say(*words: str) -> None:
    os.write(1, " ".join(words).encode() + b"\n")


def progress(event: fastmpu.ProgressEvent) -> None:
    global told
    if event.sent and not told:
        told = True
        pids = " ".join(path.read_text() for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"))
        if fork and not os.fork():
            os.close(1)
            os.close(2)
            time.sleep(5)
            os._exit(0)
        say("PIDS", pids)


receipt = fastmpu.upload(
    source,
    uri,
    endpoint=endpoint,
    progress=progress,
    engine="process",
    processes=2,
    part_size=1 << 20,
    max_concurrency=4,
    journal="off",
)
say("DONE", receipt.engine, receipt.verified)
