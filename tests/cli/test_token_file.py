"""`--token-file`: for each verb that talks to a cluster; what is wrong with the file ends the command at once."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from canary import CANARY, holds_canary

from fastmpu import mock

from .conftest import Run

OTHER = CANARY[::-1].strip("=")


@pytest.fixture
def cluster(environment: dict[str, str], tmp_path: Path) -> Iterator[mock.Cluster]:
    """It serves whoever has the canary, and nobody else. The journal is the test's own."""
    with mock.Cluster(targets=2, tokens=[CANARY]) as cluster:
        cluster.bucket("bucket")
        environment["AIS_ENDPOINT"] = cluster.endpoint
        environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        yield cluster


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(CANARY + "\n")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


@pytest.fixture
def left(cluster: mock.Cluster, run: Run, token: Path, source: Path) -> str:
    """The id of an upload that failed and was kept."""
    with cluster.faults.add("status(op=part, part=2, code=507, times=always)"):
        done = run("cp", "-p", "64KiB", "--keep", "--token-file", token, source, "ais://bucket/left")
    assert done.returncode == 3, done.stderr
    (upload_id,) = {record.upload_id for record in cluster.truth.attempts(op="part")}
    return upload_id


def has_ended(cluster: mock.Cluster, upload_id: str) -> bool:
    how = [(record.op, record.outcome) for record in cluster.truth.attempts(where="target", upload_id=upload_id)]
    return ("abort", "done") in how or ("complete", "stored") in how


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


@pytest.mark.parametrize("verb", ["cp", "put"])
@pytest.mark.parametrize("environment_has", ["nothing", "another token", "another file"])
def test_the_file_is_read(
    cluster: mock.Cluster, run: Run, token: Path, source: Path, verb: str, environment_has: str
) -> None:
    """The option goes before the environment."""
    env = {"another token": {"AIS_AUTHN_TOKEN": OTHER}, "another file": {"AIS_AUTHN_TOKEN_FILE": "/nowhere"}}
    done = run(verb, "--token-file", token, source, "ais://bucket/o", env=env.get(environment_has))
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.bucket("bucket").read("o") == source.read_bytes()


def test_json_as_ais_writes_it(cluster: mock.Cluster, run: Run, token: Path, source: Path) -> None:
    token.write_text(f'{{"token": "{CANARY}"}}')
    assert run("cp", "--token-file", token, source, "ais://bucket/o").returncode == 0


def test_the_file_of_the_environment(cluster: mock.Cluster, run: Run, token: Path, source: Path) -> None:
    """As everywhere in fastmpu, AIS_AUTHN_TOKEN goes before it; a file named - is no standard input here."""
    for env, code in (
        ({"AIS_AUTHN_TOKEN_FILE": str(token)}, 0),
        ({"AIS_AUTHN_TOKEN_FILE": "/nowhere", "AIS_AUTHN_TOKEN": CANARY}, 0),
        ({"AIS_AUTHN_TOKEN_FILE": "-"}, 2),
    ):
        done = run("cp", source, "ais://bucket/o", env=env)
        assert done.returncode == code, done.stderr


def test_from_standard_input(cluster: mock.Cluster, run: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, f"{CANARY}\nand more".encode())
    done = run("cp", "--token-file", "-", source, "ais://bucket/o")
    assert (done.returncode, done.stderr) == (0, "")
    assert sys.stdin.buffer.read() == b"and more"


@pytest.mark.parametrize(
    "text",
    [b"", b"\nlate\n", b"two words " + CANARY.encode(), b"\xff" + CANARY.encode()],
    ids=["nothing", "an empty line", "two words", "no UTF-8"],
)
def test_standard_input_without_a_token(
    cluster: mock.Cluster, run: Run, source: Path, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    type_in(monkeypatch, text)
    done = run("-v", "cp", "--token-file", "-", source, "ais://bucket/o")
    assert done.returncode == 2
    assert "--token-file -: the first line of standard input: the token is empty" in done.stderr
    assert not holds_canary(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda path: path.write_text(""), "the token is empty"),
        (lambda path: path.write_text(f"{CANARY} {CANARY}"), "the token is empty, too long, or has characters"),
    ],
    ids=["missing", "empty", "no token"],
)
def test_a_file_without_a_token(
    cluster: mock.Cluster, run: Run, token: Path, source: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    """Told once and by its name, before anything is sent, however many files were to be uploaded."""
    spoil(token)
    done = run("-v", "cp", "--token-file", token, source, token.with_name("x"), "ais://bucket/")
    assert done.returncode == 2
    assert done.stderr.count(f"--token-file={str(token)!r}: {reason}") == 1
    assert not holds_canary(done.stdout + done.stderr)
    assert cluster.truth.attempts() == []


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_others_may_read(cluster: mock.Cluster, spawn: Run, token: Path, source: Path, mode: int) -> None:
    token.chmod(mode)
    done = spawn("cp", "--token-file", token, source, "ais://bucket/o")
    assert done.returncode == 0
    told = f"LooseTokenFileWarning: --token-file={str(token)!r} has mode {mode:04o}"
    assert done.stderr.count(told) == (mode != 0o600)


@pytest.mark.parametrize(
    "verb",
    [
        ["resume"],
        ["uploads", "abort", "ID"],
        ["uploads", "abort", "ID", "--cluster", "ais://bucket"],
        ["uploads", "gc", "--older-than", "0s", "--yes"],
    ],
    ids=" ".join,
)
def test_verbs_of_unfinished_uploads(cluster: mock.Cluster, run: Run, token: Path, left: str, verb: list[str]) -> None:
    """They fail without it, and end the upload with it."""
    verb = [left if word == "ID" else word for word in verb]
    assert run(*verb).returncode != 0
    assert not has_ended(cluster, left)
    done = run(*verb, "--token-file", token)
    assert done.returncode == 0, done.stderr
    assert has_ended(cluster, left)


def test_verbs_that_ask_the_cluster(
    cluster: mock.Cluster, run: Run, token: Path, left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another journal, which does not know the upload. Standard input is read once for all requests."""
    ls = ["uploads", "ls", "--cluster", "ais://bucket", "--json", "--journal", tmp_path / "other"]
    gc = ["uploads", "gc", "--cluster", "ais://bucket", "--older-than", "0s", "--yes", "--journal", tmp_path / "other"]
    assert run(*ls).returncode != 0
    assert run(*gc).returncode != 0
    listed = run(*ls, "--token-file", token)
    assert (listed.returncode, listed.stdout.count(left)) == (0, 1)
    type_in(monkeypatch, CANARY.encode())
    assert run(*gc, "--token-file", "-").returncode == 0
    assert has_ended(cluster, left)


def test_no_option_takes_the_token_itself(cluster: mock.Cluster, run: Run, source: Path) -> None:
    done = run("cp", "--token", "anything", source, "ais://bucket/o")
    assert done.returncode == 2
    assert "No such option" in done.stderr
