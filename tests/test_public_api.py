"""The public names, as a list: a change here is a change for users and belongs in the changelog."""

from __future__ import annotations

import os
import subprocess
import sys

import fastmpu
import fastmpu.ais
import fastmpu.errors
import fastmpu.mock


def test_names_of_the_package() -> None:
    assert fastmpu.__all__ == [
        "Bucket",
        "Client",
        "ClusterUpload",
        "FastMPUError",
        "MultipartUpload",
        "Object",
        "ObjectProps",
        "ObjectReader",
        "PartRange",
        "PartReceipt",
        "Plan",
        "ProgressEvent",
        "Receipt",
        "RetryPolicy",
        "Secret",
        "StageTimes",
        "Timeouts",
        "Transfer",
        "UnfinishedUpload",
        "UploadOptions",
        "Uploader",
        "__version__",
        "abort_cluster_upload",
        "abort_upload",
        "cluster_uploads",
        "errors",
        "mock",
        "plan_parts",
        "resume",
        "unfinished_uploads",
        "upload",
    ]
    assert all(hasattr(fastmpu, name) for name in fastmpu.__all__)


def test_every_error_is_listed_and_drawn() -> None:
    classes = {
        name
        for name, value in vars(fastmpu.errors).items()
        if isinstance(value, type) and issubclass(value, fastmpu.FastMPUError)
    }
    assert classes == set(fastmpu.errors.__all__)
    drawing = fastmpu.errors.__doc__ or ""
    assert {name for name in classes if name not in drawing} == set()


def test_import_is_light() -> None:
    """The core alone: no command line, no mock, and nothing heavy that only some callers need."""
    code = "import fastmpu, sys; print(*sorted(sys.modules))"
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # imports much itself
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=quiet)
    loaded = set(done.stdout.split())
    assert loaded & {"numpy", "typer", "rich", "sqlite3", "fastmpu.mock", "fastmpu._cli"} == set()
