"""`fastmpu bench`: tiny grids against its own mock cluster: table, document, rivals, read-back, pictures, bad input."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmpu import errors, mock
from fastmpu._bench import Conditions, Grid
from fastmpu._bench import run as run_grid
from fastmpu._bench.cost import in_a_child, in_this_process
from fastmpu._bench.plots import draw

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MOCK = {"AIS_ENDPOINT": ""}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of all senders, at two part sizes, twice."""
    grid = Grid.of(part_size="100KB,300KB", concurrency="2", against="sdk,httpx,sendfile", read_back=True)
    return run_grid(grid, Conditions(size=700_000, runs=2)).document()


def test_every_run_is_in_the_document(document: dict[str, Any]) -> None:
    """With its machine, and with whom it was against; repetitions go through all cells, each in an order of its own."""
    assert document["schema"] == "fastmpu-bench/1"
    assert document["cluster"]["mock"]
    assert "MOCK" in document["cluster"]["label"]
    assert document["machine"]["cpus"] >= 1
    assert document["versions"]["fastmpu"]
    assert document["size"] == 700_000
    assert [cell["sender"] for cell in document["cells"]] == [
        sender for sender in ("fastmpu", "sdk", "httpx", "sendfile", "read-back") for _ in "12"
    ]
    runs = document["runs"]
    for repetition in (1, 2):
        assert sorted(run["cell"] for run in runs if run["repetition"] == repetition) == list(range(10))
    assert len(runs) == 20
    assert all(run["wall"] > 0 and run["cpu"] > 0 for run in runs)


def test_medians_spread_and_ratios(document: dict[str, Any]) -> None:
    """They are those of the runs."""
    ours = document["cells"][0]
    walls = [run["wall"] for run in document["runs"] if run["cell"] == 0]
    assert (ours["wall"]["min"], ours["wall"]["max"]) == (min(walls), max(walls))
    assert ours["wall"]["median"] == pytest.approx(sum(walls) / 2)
    assert ours["throughput"]["max"] == pytest.approx(700_000 / min(walls))
    assert set(ours["wall_over"]) == {"sdk", "httpx", "sendfile"}
    assert ours["wall_over"]["sdk"]["min"] > 0
    assert document["cells"][-1]["wall_over"] == {}


def test_pictures_name_the_mock(document: dict[str, Any], tmp_path: Path) -> None:
    """The same document gives the same bytes."""
    first, second = (draw(document, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == ["throughput.svg", "cpu.svg", "rivals.svg", "read-back.svg"]
    for path, again in zip(first, second, strict=True):
        assert "MOCK cluster" in path.read_text()
        assert path.read_bytes() == again.read_bytes()


def test_table_document_and_pictures_from_the_command(run: Run, tmp_path: Path) -> None:
    """A file of one's own, a few engines; the table says MOCK."""
    (tmp_path / "source.bin").write_bytes(bytes(400_000))
    arguments = ["-p", "100KB", "-c", "1,2", "--engine", "thread,inline", "--checksum", "none", "--against", "sendfile"]
    out = ["--json", tmp_path / "out.json", "--plot", tmp_path / "plots"]
    done = run("bench", "--file", "source.bin", *arguments, *out, "--runs", "1", env=MOCK)
    assert done.returncode == 0, done.stderr
    for word in ("MOCK", "inline", "wall, sendfile=1", "client CPU s/GB", "peak MiB", "python"):
        assert word in done.stdout
    cells = json.loads((tmp_path / "out.json").read_text())["cells"]
    ours = [(cell["engine"], cell["concurrency"]) for cell in cells if cell["sender"] == "fastmpu"]
    assert ours == [("thread", 1), ("inline", 1), ("thread", 2)]  # inline is one at a time, once
    assert (tmp_path / "plots" / "rivals.svg").exists()
    again = [sys.executable, "-m", "bench.plots", str(tmp_path / "out.json"), str(tmp_path / "again")]
    subprocess.run(again, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "again" / "cpu.svg").read_bytes() == (tmp_path / "plots" / "cpu.svg").read_bytes()


def test_sha256_is_a_checksum_of_parts() -> None:
    """The cluster is told each part's and compares: what was damaged on the way is refused, and sent again."""
    grid = Grid.of(part_size="100KB", concurrency="1", checksum="sha256")
    with mock.Cluster() as cluster:
        cluster.faults.add("flip_bit(op=part, part=2)")
        report = run_grid(grid, Conditions(size=300_000, runs=1, endpoint=cluster.endpoint)).document()
        parts = cluster.truth.attempts(op="part")
    assert [cell["checksum"] for cell in report["cells"]] == ["sha256"]
    assert [each.part for each in parts if each.outcome == "refused"] == [2]
    assert len([each for each in parts if each.outcome == "stored"]) == 2 * 3  # once more to warm up


def test_against_a_cluster_that_exists(run: Run, endpoint: str) -> None:
    """No mock of its own is named, and nothing is left there."""
    before = bench_buckets(endpoint)
    done = run("bench", "--size", "300KB", "-p", "100KB", "-c", "1", "--runs", "1", "--against", "httpx")
    assert done.returncode == 0, done.stderr
    assert endpoint in done.stdout
    assert "MOCK" not in done.stdout
    assert bench_buckets(endpoint) == before


def bench_buckets(endpoint: str) -> set[str]:
    action = json.dumps({"action": "list", "value": {}}).encode()
    asked = urllib.request.Request(f"{endpoint}/v1/buckets?provider=ais", data=action, method="GET")
    with urllib.request.urlopen(asked) as answer:
        return {each["name"] for each in json.loads(answer.read()) or () if each["name"].startswith("fastmpu-bench")}


def test_worker_processes_and_a_sink_far_away(run: Run, tmp_path: Path) -> None:
    """The process engine's workers are an axis, and their CPU and memory are counted. Two seconds: they have some."""
    arguments = ["--engine", "process", "--processes", "1,2", "--sink", "--round-trip", "0.01", "--bandwidth", "1MB"]
    path = tmp_path / "out.json"
    done = run("bench", "--size", "4MiB", "-p", "1MiB", "-c", "2", *arguments, "--runs", "1", "--json", path, env=MOCK)
    assert done.returncode == 0, done.stderr
    assert "round trip 10 ms" in done.stdout
    cells = json.loads(path.read_text())["cells"]
    assert [cell["processes"] for cell in cells] == [1, 2]
    assert all(cell["peak"]["median"] > 10 << 20 for cell in cells)  # an interpreter at least


def test_a_cluster_that_is_not_there(run: Run) -> None:
    done = run("bench", "--size", "300KB", "-p", "100KB", "-c", "1", env={"AIS_ENDPOINT": "http://127.0.0.1:1"})
    assert done.returncode == 6
    assert "Traceback" not in done.stderr


def test_a_run_that_fails_says_why() -> None:
    """Its process's last line, not its traceback."""
    with pytest.raises(errors.FastMPUError, match=r"status 1: KeyError") as failed:
        in_a_child("fastmpu._bench", "job", "{}")
    assert "Traceback" not in str(failed.value)


def test_what_a_job_took() -> None:
    """CPU and memory are those of the job."""
    cost = in_this_process(lambda: sum(bytearray(32 << 20)))
    assert cost.wall > 0
    assert cost.cpu > 0
    assert cost.peak > 16 << 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "big"], "part_size='big'"),
        (["-p", "8MiB,"], "part_size='8MiB,'"),
        (["-p", "0"], "part_size='0'"),
        (["-p", "6GiB", "--size", "7GiB"], "too large"),
        (["-p", "1", "--size", "10001"], "9,999"),
        (["-c", "0"], "from 1 to 1024"),
        (["-c", "four"], "concurrency='four'"),
        (["--engine", "warp"], "'thread'"),
        (["--checksum", "md4"], "'sha256'"),
        (["--against", "curl"], "'sendfile'"),
        (["--processes", "2"], "engine='process'"),
        (["--processes", "0", "--engine", "process"], "processes='0'"),
        (["--runs", "0"], "runs=0"),
        (["--size", "much"], "size='much'"),
        (["--size", "0"], "size=0"),
        (["--size", "1MiB", "--file", "x"], "file='x'"),
        (["--bandwidth", "fast"], "bandwidth='fast'"),
        (["--bandwidth", "0"], "bandwidth_per_connection"),
        (["--round-trip", "-1"], "round_trip=-1"),
        (["--sink", "--read-back"], "read_back"),
        (["--json", "/no/such/dir/out.json"], "/no/such/dir/out.json"),
        (["--plot", "/dev/null/plots"], "/dev/null/plots"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], said: str) -> None:
    """Exit code 2, the value and what is allowed, before anything starts."""
    done = run("bench", *arguments, env=MOCK)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "run 1" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--file", "nowhere.bin"], MOCK, "nowhere.bin"),
        (["--endpoint", "nonsense"], {}, "nonsense"),
        (["--endpoint", "https://host:1", "--against", "sendfile"], {}, "TLS"),
        (["--endpoint", "http://host:1", "--sink"], {}, "mock alone"),
    ],
)
def test_bad_places(run: Run, arguments: list[str], environment: dict[str, str], said: str) -> None:
    done = run("bench", *arguments, env=environment)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "run 1" not in done.stderr


@pytest.mark.parametrize(("missing", "arguments"), [("aistore", ["--against", "sdk"]), ("matplotlib", ["--plot", "x"])])
def test_what_is_not_installed(run: Run, monkeypatch: pytest.MonkeyPatch, missing: str, arguments: list[str]) -> None:
    """The extra that brings it is named."""
    find = importlib.util.find_spec
    for module in ("fastmpu._bench.grid", "fastmpu._bench.plots"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == missing else find(name))
    done = run("bench", *arguments, env=MOCK)
    assert done.returncode == 2
    assert "pip install 'fastmpu[" in done.stderr
