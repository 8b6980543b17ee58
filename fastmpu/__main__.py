"""`python -m fastmpu` is the `fastmpu` command."""

from __future__ import annotations

from ._cli.main import main

if __name__ == "__main__":
    main()
