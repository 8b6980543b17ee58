"""`fastmpu mock`, `fastmpu demo`, `--version`: the commands that need no cluster."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import fastmpu

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_mock_cluster_until_a_signal(environment: dict[str, str], number: signal.Signals) -> None:
    """Its first line is JSON with its addresses, when it is ready; it works; SIGTERM and Ctrl-C end it, exit code 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "fastmpu", "mock", "--json", "--port", "0", "--targets", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert len(told["targets"]) == 2
        with fastmpu.Client(told["endpoint"]) as client:
            obj = client.bucket("b").create().object("o")
            obj.upload(b"x" * 5000, part_size=1000)
            assert obj.get_reader().read_all() == b"x" * 5000
            assert len(client.cluster_map().targets) == 2
        process.send_signal(number)
        output, complaint = process.communicate(timeout=30)
    assert (process.returncode, output, complaint) == (0, "", "")


def test_a_mock_cluster_for_a_person(environment: dict[str, str], tmp_path: Path) -> None:
    """Without --json it says how to use it; with --dir objects lie there."""
    with subprocess.Popen(
        [sys.executable, "-m", "fastmpu", "mock", "--port", "0", "--dir", str(tmp_path / "objects")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        assert "mock" in lines[0]
        endpoint = next(line.split("=")[1].strip() for line in lines if "export AIS_ENDPOINT=" in line)
        assert "Ctrl-C" in lines[-1]
        with fastmpu.Client(endpoint) as client:
            client.bucket("b").create().object("o").put(b"x" * 12_345)
        sizes = [path.stat().st_size for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert 12_345 in sizes
        process.terminate()


def test_a_port_that_is_taken(run: Run) -> None:
    """Said in one line, exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = run("mock", "--port", listener.getsockname()[1])
    assert done.returncode == 2
    assert "cannot start the mock cluster" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("mock", "--targets", "0").returncode == 2


def test_faults_by_flag_and_by_file(environment: dict[str, str], tmp_path: Path) -> None:
    """They happen: the first create is refused by the flag's, the first part by the file's; the object is right."""
    (tmp_path / "faults").write_text("# the first part\nstatus(code=500, op=part, times=1)\n")
    command = [sys.executable, "-m", "fastmpu", "mock", "--json", "--port", "0", "--seed", "1"]
    command += ["--fault", "status(code=503, op=create, times=1)", "--faults", str(tmp_path / "faults")]
    command += ["--control-port", "0", "--round-trip", "0.001", "--bandwidth", "1GB"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        with fastmpu.Client(told["endpoint"]) as client:
            obj = client.bucket("b").create().object("o")
            receipt = obj.upload(b"x" * 5000, part_size=1000, retry=fastmpu.RetryPolicy(base=0.01))
            assert receipt.attempts == 6
            with urllib.request.urlopen(f"{told['control']}/truth") as answer:
                assert len(answer.read().splitlines()) >= 6
            assert obj.get_reader().read_all() == b"x" * 5000
        process.terminate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "lost_respons(op=part)"], "lost_response"),
        (["--fault", "status(op=prt)"], "complete"),
        (["--fault", "status(code=500"], "status(code=500"),
        (["--faults", "nowhere"], "nowhere"),
        (["--quirks", "v4"], "v5.0"),
        (["--memory", "much"], "much"),
        (["--bandwidth", "fast"], "fast"),
        (["--bandwidth", "0"], "bandwidth_per_node"),
        (["--round-trip", "-1"], "round_trip"),
    ],
)
def test_bad_flags_of_the_mock(run: Run, arguments: list[str], said: str) -> None:
    """Exit code 2, and the error lists what there is, or names what was given."""
    done = run("mock", "--port", "0", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_with_made_up_data(run: Run, tmp_path: Path) -> None:
    """The whole job: upload, proof, read back, table; labelled as a mock; no file is left behind."""
    done = run("demo", "--size", "3MiB", env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "MOCK CLUSTER" in done.stdout.upper()
    assert "3 MiB of random data" in done.stdout
    for word in ("wall", "throughput", "CPU", "memory", "fastmpu", "notebook"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 100_000, 17 << 20])
def test_demo_with_a_file(run: Run, tmp_path: Path, size: int) -> None:
    """Any file that somebody has, of any size; it stays as it was."""
    path = tmp_path / "my file [bold].bin"
    path.write_bytes(bytes(size))
    done = run("demo", path)
    assert done.returncode == 0, done.stderr
    assert "my file [bold].bin" in done.stdout
    assert path.read_bytes() == bytes(size)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["/no/such/file"], 1, "/no/such/file"),
        (["/"], 1, "directory"),
        (["--size", "big"], 2, "big"),
        (["--size", "-1"], 2, "-1"),
    ],
)
def test_demo_with_bad_input(run: Run, arguments: list[str], code: int, word: str) -> None:
    done = run("demo", *arguments)
    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"fastmpu {fastmpu.__version__}")


def test_no_arguments_show_the_help(run: Run) -> None:
    """Bare `fastmpu` names the commands."""
    done = run()
    for word in ("cp", "put", "mock", "demo"):
        assert word in done.stdout + done.stderr
    assert run("cp", "--help").returncode == 0
    assert run("nonsense").returncode == 2


def test_without_its_extras_the_command_says_what_to_install(environment: dict[str, str]) -> None:
    """The core installs without typer; the command then names the extra, without a traceback."""
    code = "import sys; sys.modules['typer'] = None; import fastmpu.__main__"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "fastmpu[cli]" in done.stderr
    assert "Traceback" not in done.stderr
