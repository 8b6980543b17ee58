"""Something to upload: random bytes, in the page cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._sizes import MiB, format_size
from ..errors import UsageError


@contextmanager
def random_file(size: int) -> Iterator[Path]:
    """A file of `size` random bytes, in the page cache and on the disk, that nobody holds open."""
    import numpy  # here, not above: what is measured imports its neighbours, and is to be no larger than an upload

    random = numpy.random.default_rng()
    with tempfile.TemporaryDirectory(prefix="fastmpu-bench-") as scratch:
        free = shutil.disk_usage(scratch).free
        if size > free:
            raise UsageError(f"size={size}: only {format_size(free)} are free in {scratch}")
        path = Path(scratch) / "random.bin"
        with path.open("wb") as out:
            for at in range(0, size, 16 * MiB):
                out.write(random.bytes(min(16 * MiB, size - at)))
            out.flush()
            os.fsync(out.fileno())  # else the disk is busy with it while the first runs are measured
        yield path
