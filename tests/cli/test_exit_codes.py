"""How the command ends: an exit code for each kind of failure, one line on stderr, never a traceback."""

from __future__ import annotations

import http.client
import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from stranger import WEB_PAGE, stranger

import fastmpu
from fastmpu import errors, mock
from fastmpu._cli.status import Status, status_of

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(bytes(300_000))
    return path


def ended_with(code: int, done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source.bin", "nonsense"], ["nonsense", "ais://bucket/name"]),
        (["source.bin", "ftp://b/o"], ["ftp"]),
        (["source.bin", "ais://bad bucket/o"], ["bad bucket"]),
        (["source.bin", "ais://b/a/../c"], [".."]),
        (["-p", "0", "source.bin", "ais://b/o"], ["part_size=0"]),
        (["-p", "10", "source.bin", "ais://b/o"], ["part_size=10", "smallest allowed is 31"]),
        (["-p", "much", "source.bin", "ais://b/o"], ["much"]),
        (["-c", "0", "source.bin", "ais://b/o"], ["max_concurrency=0"]),
        (["-c", "x", "source.bin", "ais://b/o"], ["--concurrency", "integer"]),
        (["--checksum", "sha1", "source.bin", "ais://b/o"], ["sha1", "crc32c"]),
        (["--verify", "maybe", "source.bin", "ais://b/o"], ["maybe", "head"]),
        (["--read", "fast", "source.bin", "ais://b/o"], ["fast"]),
        (["--engine", "gpu", "source.bin", "ais://b/o"], ["gpu"]),
        (["--no-such-flag", "source.bin", "ais://b/o"], ["no-such-flag"]),
        (["source.bin"], ["URI"]),
    ],
)
def test_2_for_bad_usage(run: Run, source: Path, arguments: list[str], words: list[str]) -> None:
    """Nothing was sent: there is no such bucket, and nobody noticed."""
    ended_with(2, run("cp", *arguments), *words)


def test_2_without_an_endpoint(run: Run, source: Path) -> None:
    ended_with(2, run("cp", source, "ais://b/o", env={"AIS_ENDPOINT": ""}), "AIS_ENDPOINT")
    ended_with(2, run("cp", source, "ais://b/o", env={"AIS_ENDPOINT": "no url"}), "no url")


def test_1_for_what_else_fails(run: Run, source: Path, tmp_path: Path, bucket: fastmpu.Bucket) -> None:
    """A missing file, a directory, a bucket that is not there."""
    ended_with(1, run("cp", "missing", f"{bucket.uri}/o"), "missing", "No such file")
    ended_with(1, run("cp", tmp_path, f"{bucket.uri}/o"), str(tmp_path), "directory")
    ended_with(1, run("cp", source, "ais://no-such-bucket-here/o"), "no-such-bucket-here", "does not exist")


def test_a_directory_with_its_slash(run: Run, tmp_path: Path, bucket: fastmpu.Bucket) -> None:
    """Shells complete it: the error names the directory."""
    (tmp_path / "data").mkdir()
    done = run("cp", "data/", f"{bucket.uri}/")
    assert done.returncode in (1, 2)
    assert "data/" in done.stderr
    assert "Traceback" not in done.stderr


def test_6_where_there_is_no_cluster(run: Run, source: Path) -> None:
    """Not reachable, no AIStore, or not authorised: look at the address or the token."""
    ended_with(6, run("cp", source, "ais://b/o", env={"AIS_ENDPOINT": "http://127.0.0.1:1"}), "127.0.0.1:1")
    with stranger(200, WEB_PAGE, Content_Type="text/html") as server:
        ended_with(6, run("cp", source, "ais://b/o", env={"AIS_ENDPOINT": server.url}), server.url)
    refusal = b'{"message":"token expired","node":"p[a]","status":401}'
    with stranger(401, refusal, Content_Type="application/json") as server:
        ended_with(6, run("cp", source, "ais://b/o", env={"AIS_ENDPOINT": server.url}), "token expired")


def test_5_for_a_source_that_changes(spawn: Run, bucket: fastmpu.Bucket, source: Path, tmp_path: Path) -> None:
    """A file that another process keeps writing to; the bucket stays empty."""
    stop = threading.Event()

    def write() -> None:
        with source.open("ab") as file:
            while not stop.wait(0.001):
                file.write(b"more")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = spawn("cp", "-p", "100", "-c", "1", source, f"{bucket.uri}/o")
    finally:
        stop.set()
        writer.join()
    ended_with(5, done, "source.bin", "grew")
    assert list(bucket.list()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.PlanError("x"), 2),
        (errors.InvalidNameError("x"), 2),
        (errors.SourceError(2, "x"), 1),
        (errors.SourceChangedError("x"), 5),
        (errors.IntegrityError("x", expected="a", found="b"), 4),
        (errors.ConnectFailedError("x"), 6),
        (errors.CertificateError("x"), 6),
        (errors.AuthError("x", status=403), 6),
        (errors.NotAIStoreError("x"), 6),
        (errors.TransportError("x", sent=True), 1),
        (errors.BucketNotFoundError("x", status=404), 1),
        (errors.OutOfSpaceError("x", status=507), 1),
        (errors.PartError("x", part_number=1), 1),
        (errors.AmbiguousPartError("x", part_number=1), 1),
        (errors.ObjectExistsError("x"), 1),
        (RuntimeError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_table_of_codes(error: Exception, code: int) -> None:
    """Each kind of error has its code (features section 4); one that is wrapped keeps it."""
    assert status_of(error) == code
    if isinstance(error, fastmpu.FastMPUError):
        wrapped = errors.PartError("gave up", part_number=1)
        wrapped.__cause__ = error
        assert status_of(wrapped) == code


def test_4_is_what_an_integrity_error_gives(
    run: Run, bucket: fastmpu.Bucket, source: Path, cluster_that_lies: str
) -> None:
    """The cluster's HEAD tells another checksum than ours."""
    done = run("cp", "-p", "100000", source, f"{bucket.uri}/o", env={"AIS_ENDPOINT": cluster_that_lies})
    ended_with(4, done, "is not what was sent", "crc32c")


@pytest.fixture
def cluster_that_lies(endpoint: str) -> Iterator[str]:
    """A proxy before the proxy, which answers HEAD of objects itself, with a checksum of its own invention."""
    behind = urlsplit(endpoint)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port)
            headers = {"Content-Length": str(len(body)), "Host": behind.netloc}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name in ("Location", "Content-Type"):
                if answer.headers[name]:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def lie(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "300000")
            self.send_header("Ais-Checksum-Type", "crc32c")
            self.send_header("Ais-Checksum-Value", "00000000")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_DELETE = relay  # noqa: N815 - the base class's names
        do_HEAD = lie  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["thread", "inline"])
def test_130_when_interrupted(environment: dict[str, str], tmp_path: Path, number: signal.Signals, engine: str) -> None:
    """Ctrl-C and SIGTERM: exit code 130 in seconds, the upload is aborted, and no traceback is seen."""
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(2 << 30)  # sparse: some seconds of work
    with mock.Cluster(targets=1) as cluster, fastmpu.Client(cluster.endpoint) as client:
        bucket = client.bucket("b").create()
        process = subprocess.Popen(
            [sys.executable, "-m", "fastmpu", "cp", "-p", "1MiB", "--engine", engine, str(source), "ais://b/o"],
            env={**environment, "AIS_ENDPOINT": cluster.endpoint},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            give_up_at = time.monotonic() + 60
            while cluster.stored_bytes < 3 << 20 and time.monotonic() < give_up_at:
                time.sleep(0.005)
            process.send_signal(number)
            output, complaint = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in complaint
        assert output == ""
        assert list(bucket.list()) == []
        assert cluster.stored_bytes == 0


def test_codes_are_documented(run: Run) -> None:
    """--help names them all."""
    text = " ".join(run("--help").stdout.split())
    for status in Status:
        assert f"{int(status)} " in text
    assert "130 interrupted" in text
