"""The pictures of a document of `fastmpu bench --json FILE`, drawn again: `python -m bench.plots FILE [DIRECTORY]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastmpu._bench.plots import draw


def main() -> None:
    file, *directory = map(Path, sys.argv[1:])
    for path in draw(json.loads(file.read_text(encoding="utf-8")), directory[0] if directory else file.parent):
        print(path)


if __name__ == "__main__":
    main()
