"""The `fastmpu` command, in this process where that tells the same (and coverage sees it), else in one of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastmpu
from fastmpu._cli.main import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(endpoint: str) -> dict[str, str]:
    """This process's, without what would turn fastmpu's knobs, and with the cluster's address."""
    unwanted = ("FASTMPU_", "AIS_", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "AIS_ENDPOINT": endpoint, "COLUMNS": "200"}


@pytest.fixture
def run(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """The console script's own function, in `tmp_path`, with its arguments and environment; what it leaves in this
    process (a signal's handler, a logger's) is undone."""
    logger = logging.getLogger("fastmpu")
    handlers, level = logger.handlers, logger.level
    on_signal = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        argv = ["fastmpu", *map(str, arguments)]
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name in set(os.environ) - set(environment):
                patch.delenv(name)
            for name, value in {**environment, **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", argv)
            patch.setattr(tempfile, "tempdir", None)  # TMPDIR is looked at once
            with pytest.raises(SystemExit) as end:
                main()
        output = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(argv, code, output.out, output.err)

    yield run
    logger.handlers = handlers
    logger.setLevel(level)
    for number, handler in on_signal.items():
        signal.signal(number, handler)


@pytest.fixture
def spawn(environment: dict[str, str], tmp_path: Path) -> Run:
    """`python -m fastmpu` as a process of its own, to its end."""

    def spawn(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fastmpu", *map(str, arguments)],
            env={**environment, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return spawn


@pytest.fixture
def objects(bucket: fastmpu.Bucket) -> Callable[[], dict[str, bytes]]:
    """What lies in the bucket."""
    return lambda: {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list()}
