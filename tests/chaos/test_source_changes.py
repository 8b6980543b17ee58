"""A file that changes while it is uploaded is noticed, or does not matter; it kills no process (design section 4)."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .source_changer import MODES, OF_THE_SAME_BYTES, READ_ERRORS, kinds

EACH = 4  # of every kind, in every mode: 300 uploads


@pytest.mark.parametrize("mode", MODES)
def test_detected_or_consistent(mode: str) -> None:
    """Every upload stores what the file was when it was opened, or raises a SourceError and stores nothing. Truncating
    a mapped file again and again ends no process with SIGBUS.
    """
    count = EACH * len(kinds(mode))
    program = Path(__file__).with_name("source_changer.py")
    child = subprocess.run(
        [sys.executable, "-W", "error", str(program), mode, "0", str(count)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    *lines, last = child.stdout.splitlines()
    assert [line for line in lines if line.startswith("BAD")] == []
    assert last == "done"
    outcomes = Counter(tuple(line.split()) for line in lines)
    assert outcomes.total() == count
    assert {outcome for _, outcome in outcomes} <= {"success", "SourceChangedError", "SourceError"}
    for kind in kinds(mode):
        if kind not in (*OF_THE_SAME_BYTES, *READ_ERRORS):  # a map needs no read calls
            assert outcomes[kind, "SourceChangedError"], f"{kind} was never noticed"
