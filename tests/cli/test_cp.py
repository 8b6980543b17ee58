"""`fastmpu cp`: files to names and prefixes, results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from canary import CANARY

import fastmpu

DATA = bytes(range(256)) * 100
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Objects = Callable[[], dict[str, bytes]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(DATA)
    return path


def test_to_a_name(spawn: Run, bucket: fastmpu.Bucket, source: Path, objects: Objects) -> None:
    """One line of result on stdout, nothing on stderr, exit code 0."""
    done = spawn("cp", source, f"{bucket.uri}/a/b.bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert objects() == {"a/b.bin": DATA}
    assert done.stdout.startswith(f"{bucket.uri}/a/b.bin: 25 KiB in ")
    assert "verified by head" in done.stdout


@pytest.mark.parametrize(("suffix", "name"), [("", "model.bin"), ("/", "model.bin"), ("/x/", "x/model.bin")])
def test_to_a_prefix(run: Run, bucket: fastmpu.Bucket, source: Path, objects: Objects, suffix: str, name: str) -> None:
    """A bucket, or a URI that ends in '/', keeps the file's name; relative paths are fine."""
    done = run("cp", "model.bin", bucket.uri + suffix)
    assert done.returncode == 0, done.stderr
    assert objects() == {name: DATA}


def test_put_is_the_same(run: Run, bucket: fastmpu.Bucket, source: Path, objects: Objects) -> None:
    assert run("put", source, f"{bucket.uri}/o").returncode == 0
    assert objects() == {"o": DATA}


def test_the_installed_script(environment: dict[str, str], bucket: fastmpu.Bucket, source: Path) -> None:
    """`fastmpu` and `python -m fastmpu` are one."""
    script = Path(sys.executable).with_name("fastmpu")
    if not script.exists():
        pytest.skip("fastmpu is not installed as a script here")
    done = subprocess.run(
        [script, "cp", source, f"{bucket.uri}/o"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_several_files(run: Run, bucket: fastmpu.Bucket, tmp_path: Path, objects: Objects) -> None:
    names = ["one", "two words", "dreiß", "[red]four"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    done = run("cp", *names, f"{bucket.uri}/d/")
    assert done.returncode == 0, done.stderr
    assert objects() == {f"d/{name}": name.encode() for name in names}
    assert len(done.stdout.splitlines()) == 4


def test_one_that_fails_does_not_stop_the_others(
    run: Run, bucket: fastmpu.Bucket, source: Path, tmp_path: Path, objects: Objects
) -> None:
    """Exit code 1, the failed one named on stderr, the others stored."""
    (tmp_path / "last").write_bytes(b"last")
    done = run("cp", "model.bin", "missing", "last", f"{bucket.uri}/")
    assert done.returncode == 1
    assert objects() == {"model.bin": DATA, "last": b"last"}
    assert "missing" in done.stderr
    assert "No such file" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_files_that_would_become_one_object(
    run: Run, bucket: fastmpu.Bucket, source: Path, tmp_path: Path, objects: Objects
) -> None:
    """Refused before the first byte, with both names and a remedy."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "model.bin").write_bytes(b"other")
    for arguments in (("model.bin", "dir/model.bin"), ("model.bin", "model.bin"), ("model.bin", "./model.bin")):
        done = run("cp", *arguments, f"{bucket.uri}/")
        assert done.returncode == 2
        assert f"{bucket.uri}/model.bin" in done.stderr
        assert "one by one" in done.stderr
    assert objects() == {}


def test_several_files_to_one_name(run: Run, bucket: fastmpu.Bucket, source: Path, objects: Objects) -> None:
    done = run("cp", source, source, f"{bucket.uri}/name")
    assert done.returncode == 2
    assert "end the URI with '/'" in done.stderr
    assert objects() == {}


def test_standard_input_is_refused_with_a_hint(run: Run, bucket: fastmpu.Bucket) -> None:
    done = run("cp", "-", f"{bucket.uri}/o")
    assert done.returncode == 2
    assert "standard input" in done.stderr
    assert "file first" in done.stderr


def test_json_is_one_receipt_a_line(run: Run, bucket: fastmpu.Bucket, source: Path, tmp_path: Path) -> None:
    """On stdout, in the order in which they end, and only that: it can be piped."""
    (tmp_path / "other").write_bytes(b"other")
    done = run("cp", "--json", "-p", "10KiB", "-c", "2", "model.bin", "missing", "other", f"{bucket.uri}/")
    assert done.returncode == 1
    receipts = {each["uri"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert set(receipts) == {f"{bucket.uri}/model.bin", f"{bucket.uri}/other"}
    receipt = receipts[f"{bucket.uri}/model.bin"]
    assert receipt["part_size"] == 10_240
    assert receipt["max_concurrency"] == 2
    assert len(receipt["parts"]) == 3
    assert receipt["version"] == 1
    assert receipt["source"] == "model.bin"


def test_every_flag_reaches_the_library(run: Run, bucket: fastmpu.Bucket, source: Path) -> None:
    flags = ["--part-size", "9KiB", "--concurrency", "3", "--checksum", "xxhash", "--verify", "read"]
    done = run("cp", "--json", *flags, "--read", "pread", "--engine", "inline", source, f"{bucket.uri}/o")
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    found = [receipt[key] for key in ("part_size", "max_concurrency", "verified", "read", "engine")]
    assert found == [9216, 3, "read", "pread", "inline"]
    assert set(receipt["parts"][0]["checksums"]) == {"crc32c", "xxhash"}


def test_the_environment_turns_the_knobs(run: Run, bucket: fastmpu.Bucket, source: Path) -> None:
    """FASTMPU_<OPTION>, unless a flag says otherwise."""
    env = {"FASTMPU_PART_SIZE": "5KiB", "FASTMPU_MAX_CONCURRENCY": "2", "FASTMPU_VERIFY": "size"}
    receipt = json.loads(run("cp", "--json", source, f"{bucket.uri}/o", env=env).stdout)
    assert (receipt["part_size"], receipt["max_concurrency"], receipt["verified"]) == (5120, 2, "size")
    receipt = json.loads(run("cp", "--json", "-p", "6KiB", source, f"{bucket.uri}/o", env=env).stdout)
    assert receipt["part_size"] == 6144
    done = run("cp", source, f"{bucket.uri}/o", env={"FASTMPU_PART_SIZE": "huge"})
    assert done.returncode == 2
    assert "'huge'" in done.stderr


def test_the_endpoint_flag_wins(run: Run, bucket: fastmpu.Bucket, source: Path, endpoint: str) -> None:
    done = run("cp", "--endpoint", endpoint, source, f"{bucket.uri}/o", env={"AIS_ENDPOINT": "http://127.0.0.1:1"})
    assert done.returncode == 0, done.stderr


def test_no_clobber(run: Run, bucket: fastmpu.Bucket, source: Path, objects: Objects) -> None:
    """-n refuses what exists: exit code 1, the old object stays."""
    bucket.object("o").put(b"old")
    done = run("cp", "-n", source, f"{bucket.uri}/o")
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert objects() == {"o": b"old"}
    assert run("cp", "-n", source, f"{bucket.uri}/new").returncode == 0


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.mark.parametrize("choice", ["auto", "plain", "none"])
def test_no_bar_where_there_is_no_terminal(spawn: Run, bucket: fastmpu.Bucket, source: Path, choice: str) -> None:
    """Logs of a CI job get no control characters, on either stream, when all is well and when it is not."""
    done = spawn("cp", "--progress", choice, source, f"{bucket.uri}/o")
    assert (done.returncode, done.stderr) == (0, "")
    assert not CONTROL.search(done.stdout)
    failed = spawn("cp", "--progress", choice, "missing", f"{bucket.uri}/o")
    assert not CONTROL.search(failed.stdout + failed.stderr)


def test_a_bar_on_a_terminal(environment: dict[str, str], bucket: fastmpu.Bucket, source: Path) -> None:
    """With a terminal on stderr there is one, and stdout is still only the result."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmpu", "cp", "--json", str(source), f"{bucket.uri}/o"],
        env={**environment, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 65536):
            shown += piece
    except OSError:
        pass  # EIO: the last writer has closed it
    finally:
        os.close(leader)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"\x1b[" in shown
    assert b"model.bin" in shown
    assert json.loads(output)["size"] == len(DATA)


def test_a_bar_on_request(run: Run, bucket: fastmpu.Bucket, tmp_path: Path, objects: Objects) -> None:
    """--progress bar wins over the missing terminal; names are names, not markup."""
    (tmp_path / "[red]four").write_bytes(DATA)
    done = run("cp", "--progress", "bar", "-p", "1KiB", "[red]four", f"{bucket.uri}/")
    assert done.returncode == 0
    assert "[red]four" in done.stderr
    assert objects() == {"[red]four": DATA}


def test_plain_lines_for_logs(run: Run, bucket: fastmpu.Bucket, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal a line every 30 seconds tells how far it is; here at every event."""
    monkeypatch.setattr("fastmpu._cli.render.LINE_EVERY", 0.0)
    done = run("cp", source, f"{bucket.uri}/o")
    assert "model.bin: 25 KiB of 25 KiB, done" in done.stderr
    assert not CONTROL.search(done.stderr)


def test_verbose_logs_go_to_stderr(run: Run, bucket: fastmpu.Bucket, source: Path) -> None:
    """-v adds lines there; stdout stays the result."""
    done = run("-v", "cp", "--json", source, f"{bucket.uri}/o")
    assert done.returncode == 0
    assert json.loads(done.stdout)["size"] == len(DATA)


def test_the_token_is_not_shown(run: Run, bucket: fastmpu.Bucket, source: Path) -> None:
    """Whatever happens, and however loud the logs: the canary is in no output."""
    canary = CANARY
    for arguments in (
        ("-v", "cp", source, f"{bucket.uri}/o"),
        ("-v", "cp", "missing", f"{bucket.uri}/o"),
        ("-v", "cp", "--endpoint", "http://127.0.0.1:1", source, f"{bucket.uri}/o"),
        ("-v", "cp", source, "ais://no-such-bucket-here/o"),
    ):
        done = run(*arguments, env={"AIS_AUTHN_TOKEN": canary})
        assert canary not in done.stdout + done.stderr
    done = run("cp", source, f"{bucket.uri}/o", env={"AIS_AUTHN_TOKEN": f"{canary} with blanks"})
    assert done.returncode == 2
    assert canary not in done.stdout + done.stderr
