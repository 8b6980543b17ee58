"""`fastmpu resume` and `fastmpu uploads`, as after a crash."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmpu
from fastmpu import mock

from .conftest import Run

CONTENT = random.Random(3).randbytes(20 * 65_536 + 99)


@pytest.fixture
def slow() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=3, link=mock.Link(bandwidth_per_node=4e6)) as cluster:
        cluster.bucket("bucket")
        yield cluster


@pytest.fixture
def killed(environment: dict[str, str], slow: mock.Cluster, tmp_path: Path) -> str:
    """The id of an upload whose `fastmpu cp` was killed, about half way."""
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    command = [sys.executable, "-m", "fastmpu", "cp", "-p", "64KiB", "-c", "2", str(source), "ais://bucket/dir/object"]
    environment["AIS_ENDPOINT"] = slow.endpoint
    process = subprocess.Popen(command, env=environment)
    until = time.monotonic() + 30
    while len(slow.truth.attempts(op="part")) < 10 and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with_journal = Path(environment["XDG_STATE_HOME"]) / "fastmpu" / "journal.sqlite3"
    left = fastmpu.unfinished_uploads(journal=str(with_journal))
    return next(each.upload_id for each in left if each.endpoint == slow.endpoint)


@pytest.fixture(autouse=True)
def own_state(environment: dict[str, str], tmp_path: Path) -> None:
    environment["XDG_STATE_HOME"] = str(tmp_path / "state")


def test_listed_and_resumed_by_id(run: Run, killed: str, slow: mock.Cluster) -> None:
    """The journal knows where; the receipt says what was taken over."""
    listed = run("uploads", "ls")
    assert killed in listed.stdout
    assert "of 21 parts" in listed.stdout
    (told,) = [json.loads(line) for line in run("uploads", "ls", "--json").stdout.splitlines()]
    assert (told["upload_id"], told["uri"], told["size"]) == (killed, "ais://bucket/dir/object", len(CONTENT))
    done = run("resume", killed, "--json", env={"AIS_ENDPOINT": ""})
    assert done.returncode == 0
    receipt = json.loads(done.stdout)
    assert receipt["resumed"] >= 5
    assert receipt["bytes_sent"] < receipt["size"] == len(CONTENT)
    assert slow.bucket("bucket").read("dir/object") == CONTENT
    assert run("uploads", "ls", "--json").stdout == ""


def test_all_are_resumed(run: Run, killed: str, slow: mock.Cluster) -> None:
    assert run("resume").returncode == 0
    assert slow.bucket("bucket").read("dir/object") == CONTENT
    nothing = run("resume")
    assert (nothing.returncode, "nothing to resume" in nothing.stderr) == (0, True)


def test_the_same_cp_goes_on(run: Run, killed: str, slow: mock.Cluster) -> None:
    """And with other parts it starts afresh."""
    done = run("cp", "--json", "-p", "64KiB", "source.bin", "ais://bucket/dir/object")
    assert json.loads(done.stdout)["resumed"] >= 5
    assert slow.truth.violations() == []


def test_aborted_by_id(run: Run, killed: str, slow: mock.Cluster) -> None:
    done = run("uploads", "abort", killed)
    assert (done.returncode, killed in done.stderr) == (0, True)
    assert slow.stored_bytes == 0
    unknown = run("uploads", "abort", killed)
    assert unknown.returncode != 0
    assert "uploads ls" in unknown.stderr


def test_collected(run: Run, killed: str, slow: mock.Cluster) -> None:
    """Only what is old enough, and only with --yes."""
    assert "no unfinished upload is older" in run("uploads", "gc", "--older-than", "1h", "--yes").stderr
    shown = run("uploads", "gc", "--older-than", "0s")
    assert f"would abort {killed}" in shown.stderr
    assert slow.stored_bytes
    assert run("uploads", "gc", "--older-than", "0s", "--yes").returncode == 0
    assert slow.stored_bytes == 0
    bad = run("uploads", "gc", "--older-than", "soon")
    assert (bad.returncode, "'soon'" in bad.stderr) == (2, True)


def test_kept_parts_can_be_resumed(run: Run, slow: mock.Cluster, environment: dict[str, str], tmp_path: Path) -> None:
    """An upload that failed and was kept: exit code 3, and the command that goes on."""
    environment["AIS_ENDPOINT"] = slow.endpoint
    (tmp_path / "source.bin").write_bytes(CONTENT)
    with slow.faults.add("status", op="part", part=7, code=507):
        failed = run("cp", "--keep", "-p", "64KiB", "source.bin", "ais://bucket/kept")
    assert failed.returncode == 3
    assert "it can go on: fastmpu resume" in failed.stderr
    assert run("resume").returncode == 0
    assert slow.bucket("bucket").read("kept") == CONTENT


def test_what_the_cluster_lists(run: Run, killed: str, slow: mock.Cluster) -> None:
    """Everybody's uploads, on request; nobody's is aborted without --yes, and never one that the journal knows."""
    with fastmpu.Client(slow.endpoint) as client:
        mpu = client.bucket("bucket").object("by [red]somebody[/red]").multipart_upload().create()
        foreign = mpu.upload_id
    assert foreign is not None
    listed = run("uploads", "ls", "--cluster", "ais://bucket")
    assert {killed, foreign} <= set(listed.stdout.split())
    assert "[red]somebody[/red]" in listed.stdout
    told = [
        json.loads(line) for line in run("uploads", "ls", "--cluster", "ais://bucket", "--json").stdout.splitlines()
    ]
    assert {each["upload_id"]: each["known"] for each in told} == {killed: True, foreign: False}
    assert "no unfinished upload is older than 1d" in run("uploads", "gc", "--cluster", "ais://bucket").stderr
    shown = run("uploads", "gc", "--cluster", "ais://bucket", "--older-than", "0s")
    assert f"would abort {foreign}" in shown.stderr
    assert killed not in shown.stderr
    done = run("uploads", "gc", "--cluster", "ais://bucket", "--older-than", "0s", "--yes")
    assert (done.returncode, f"{foreign} was aborted" in done.stderr) == (0, True)
    told = [
        json.loads(line) for line in run("uploads", "ls", "--cluster", "ais://bucket", "--json").stdout.splitlines()
    ]
    assert [each["upload_id"] for each in told] == [killed]


def test_one_that_only_the_cluster_knows(run: Run, killed: str, slow: mock.Cluster) -> None:
    """By its id and bucket; for one that the journal knows, its care holds."""
    with fastmpu.Client(slow.endpoint) as client:
        foreign = client.bucket("bucket").object("name").multipart_upload().create().upload_id
    assert run("uploads", "abort", foreign).returncode != 0
    assert run("uploads", "abort", foreign, "--cluster", "ais://bucket").returncode == 0
    assert run("uploads", "abort", killed, "--cluster", "ais://bucket").returncode == 0
    assert run("uploads", "ls").stdout.count(killed) == 0
    assert slow.stored_bytes == 0
    unknown = run("uploads", "ls", "--cluster", "ais://no-such-bucket")
    assert (unknown.returncode != 0, "no-such-bucket" in unknown.stderr) == (True, True)
