"""The processes that the bench starts: `python -m fastmpu._bench job|mock JSON`."""

from __future__ import annotations

import sys

from .cluster import serve
from .job import do

if __name__ == "__main__":  # the process engine's workers import this module again
    {"job": do, "mock": serve}[sys.argv[1]](sys.argv[2])
