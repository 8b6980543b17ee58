"""What `fastmpu --help` loads: it has to be there at once (`python -m bench.startup` says how fast it is)."""

from __future__ import annotations

import os
import subprocess
import sys


def test_help_loads_only_what_it_shows() -> None:
    """Neither the mock nor the library, which come with the verb that is typed."""
    code = (
        "import sys\n"
        "from fastmpu._cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # imports much itself
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=quiet)
    assert "bench" in done.stdout
    loaded = set(done.stderr.split())
    late = {"numpy", "httpx", "sqlite3", "fastmpu.mock", "fastmpu._bench", "fastmpu._upload", "fastmpu._cli.demo"}
    assert loaded & late == set()
