"""What reading a file from the page cache and hashing it costs: by library, by how it is read, and by threads.

    python -m bench.hashing                             # 1 GiB, one thread, and four

Nothing is sent. Prints median (minimum-maximum) of CPU seconds a GB, of rounds that go through all ways in turn.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import crc32c
import xxhash
from fastcrc.crc32 import iscsi

from bench.measure import MiB, print_machine, random_file, spread
from fastmpu._source import HASH_WINDOW
from fastmpu._source.file_map import FileMap

Hash = Callable[[memoryview], object]
LIBRARIES: dict[str, Hash] = {
    "CRC32C, fastcrc": iscsi,
    "CRC32C, crc32c": crc32c.crc32c,
    "XXH3, xxhash": xxhash.xxh3_64_intdigest,
    "not hashed": lambda _: None,
}
WINDOW = 4 * MiB


def mapped(fd: int, start: int, end: int, hash_: Hash, span: int) -> None:
    for at in range(start, end, span):
        size = min(span, end - at)
        with FileMap(fd, at, size) as file_map:
            for offset in range(at, at + size, WINDOW):
                window = file_map.window(offset, min(WINDOW, at + size - offset))
                assert window is not None
                with window:
                    hash_(window)


def read(fd: int, start: int, end: int, hash_: Hash) -> None:
    buffer = memoryview(bytearray(HASH_WINDOW))
    for at in range(start, end, HASH_WINDOW):
        hash_(buffer[: os.preadv(fd, [buffer[: end - at]], at)])


WAYS: dict[str, Callable[[int, int, int, Hash], None]] = {
    **{f"maps of {span} MiB": partial(mapped, span=span * MiB) for span in (2, 4, 8, 16)},
    "preadv, 512 KiB": read,
}


def cpu_seconds(way: Callable[[int, int, int, Hash], None], path: Path, hash_: Hash, threads: int) -> float:
    """Each thread has an equal stretch of the file."""
    size = path.stat().st_size
    bounds = [size // MiB * index // threads * MiB for index in range(threads)] + [size]
    with path.open("rb") as file:
        workers = [
            threading.Thread(target=way, args=(file.fileno(), *bounds[index : index + 2], hash_))
            for index in range(threads)
        ]
        began = time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB (default %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4], help="(default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that is not (default %(default)s)")
    options = parser.parse_args()

    print_machine(["fastmpu", "fastcrc", "crc32c", "xxhash"])
    cells = [
        (threads, library, way)
        for threads in options.threads
        for library in LIBRARIES
        for way in WAYS
        if library == "CRC32C, fastcrc" or way in ("maps of 8 MiB", "preadv, 512 KiB")
    ]
    costs: dict[tuple[int, str, str], list[float]] = {cell: [] for cell in cells}
    with random_file(options.size * MiB) as path:
        for run in range(options.runs + 1):
            for threads, library, way in cells:
                seconds = cpu_seconds(WAYS[way], path, LIBRARIES[library], threads)
                if run:
                    costs[threads, library, way].append(seconds / (options.size * MiB / 1e9))
    print(f"{options.size} MiB from the page cache, {options.runs} runs\n")
    print(f"{'threads':>7}  {'hash':18}{'read by':18}{'CPU s/GB':>24}")
    for (threads, library, way), values in costs.items():
        print(f"{threads:7}  {library:18}{way:18}{spread(values, '.3f'):>24}")


if __name__ == "__main__":
    main()
