"""A client stays in its process: forks, pickles, and the end of the interpreter."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from interposer import Interposer, meanwhile

import fastmpu
from fastmpu import mock
from fastmpu.errors import ForkError

LIMIT = 20  # seconds for a child of which nothing should take two


def in_a_forked_child(act: Callable[[], object]) -> str:
    """What `act` raises there, by name and words; "nothing" if it returns."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: the mock's threads are not forked, we know
        child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
            said = f"{type(error).__name__}: {error}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


USES: dict[str, Callable[[fastmpu.Client, fastmpu.MultipartUpload], object]] = {
    "map": lambda client, _: client.cluster_map(),
    "head": lambda client, _: client.bucket("bucket").object("o").head(),
    "put": lambda client, _: client.bucket("bucket").object("o").put(b"x"),
    "get": lambda client, _: client.bucket("bucket").object("o").get_reader().read_all(),
    "upload": lambda client, _: client.bucket("bucket").object("o").upload(b"x" * 5000, part_size=1000),
    "list": lambda client, _: list(client.bucket("bucket").list()),
    "part": lambda _, upload: upload.add_part(2).put_content(b"x"),
    "complete": lambda _, upload: upload.complete(),
    "abort": lambda _, upload: upload.abort(),
    "probe": lambda _, upload: upload.probe_gaps(),
}


@pytest.mark.parametrize("use", USES)
def test_a_forked_child_is_refused_before_a_byte(
    tapped: fastmpu.Client, tap: Interposer, obj: fastmpu.Object, use: str
) -> None:
    """Its connections are the parent's: bytes of both would mix. The parent's upload is not harmed."""
    upload = obj.multipart_upload().create()
    upload.add_part(1).put_content(b"abc")

    def act() -> None:
        before = len(tap.wires)
        try:
            USES[use](tapped, upload)
        finally:
            assert len(tap.wires) == before

    said = in_a_forked_child(act)
    assert said.startswith(f"ForkError: this client was made in process {os.getpid()} and is used in ")
    assert "make a new client there" in said
    upload.complete()
    assert obj.get_reader().read_all() == b"abc"


def test_a_fork_in_the_middle_of_a_part(tapped: fastmpu.Client, tap: Interposer, obj: fastmpu.Object) -> None:
    """Also while another request holds what locks there are; leaving the client's block there does not hang either."""
    said: list[str] = []

    def child() -> None:
        with tapped:
            obj.head()

    tap.on("part", meanwhile(lambda: said.append(in_a_forked_child(child))), times=2)
    obj.upload(b"x" * 50_000, part_size=5000)
    assert {each.partition(":")[0] for each in said} == {"ForkError"}
    assert obj.get_reader().read_all() == b"x" * 50_000


def test_a_locked_client_is_closed_in_a_child_without_waiting(tapped: fastmpu.Client) -> None:
    """A lock that another thread held when it forked is never released in the child."""
    with tapped.endpoint._lock:
        assert in_a_forked_child(tapped.close) == "nothing"
        assert in_a_forked_child(tapped.cluster_map).startswith("ForkError")


def test_a_child_that_makes_its_own_client_works(cluster: mock.Cluster, tapped: fastmpu.Client) -> None:
    tapped.bucket("bucket").create()

    def act() -> None:
        with fastmpu.Client(cluster.endpoint) as client:
            client.bucket("bucket").object("of-a-child").upload(b"x" * 5000, part_size=1000)

    assert in_a_forked_child(act) == "nothing"
    assert tapped.bucket("bucket").object("of-a-child").head().size == 5000


def test_fork_error_is_a_usage_error() -> None:
    assert issubclass(ForkError, fastmpu.errors.UsageError)


@pytest.mark.parametrize("journey", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("what", ["client", "endpoint", "bucket", "object", "upload"])
def test_what_holds_connections_does_not_travel(
    tapped: fastmpu.Client, obj: fastmpu.Object, journey: Callable[[Any], object], what: str
) -> None:
    """The error says what to do instead. (A shallow copy of a bucket is still the same client's.)"""
    things = {"client": tapped, "endpoint": tapped.endpoint, "bucket": obj.bucket, "object": obj}
    thing = things.get(what) or obj.multipart_upload()
    if journey is copy.copy and what in ("bucket", "object", "upload"):
        assert repr(journey(thing)) == repr(thing)
        return
    with pytest.raises(TypeError) as caught:
        journey(thing)
    if what != "upload":  # its ledger's lock may come first
        assert "make a new one in the other process" in str(caught.value)


# --- the end of the interpreter ---------------------------------------------------------------------------------------

PROLOGUE = """
import atexit, sys, threading, time
import fastmpu

client = fastmpu.Client(sys.argv[1])
obj = client.bucket("bucket").create().object("o")

def upload(**options):
    try:
        obj.upload(b"x" * 100_000, part_size=5000, **options)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    else:
        print("stored", obj.head().size, flush=True)
"""
ENDINGS = {
    "atexit, in its own thread": "atexit.register(upload, engine='inline')",
    "atexit": "atexit.register(upload)",
    "exit of main, by a thread": "threading.Thread(target=lambda: (time.sleep(0.1), upload())).start()",
    "exit of main, by a daemon": (
        "threading.Thread(target=lambda: [upload() for _ in range(10**6)], daemon=True).start(); time.sleep(0.1)"
    ),
    "exit of main, under way": (
        "started = threading.Event()\n"
        "threading.Thread(target=lambda: upload(progress=lambda _: started.set())).start()\n"
        "started.wait(10)"
    ),
    "sys.exit in a callback": "obj.upload(b'x' * 100_000, part_size=5000, progress=lambda _: sys.exit(3))",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_upload_at_the_end_of_the_interpreter(ending: str) -> None:
    """It is stored, or it is said clearly that it is not; and the process ends (boto/s3transfer#197)."""
    code = PROLOGUE + ENDINGS[ending] + "\n"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # The cluster is in another process: Python 3.12 starts no thread at its end, and the mock has one a connection.
    with mock.Cluster(targets=1) as cluster:
        command = [sys.executable, "-c", code, cluster.endpoint]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, env=environment)
    lines = set(done.stdout.split("\n")) - {""}
    if ending == "sys.exit in a callback":
        assert done.returncode == 3
        return
    assert done.returncode in (0, 1, -6) if "daemon" in ending else done.returncode == 0, done.stderr
    told = {line for line in lines if line != "stored 100000"}
    assert all("interpreter" in line or "shutdown" in line for line in told), (lines, done.stderr)
    if ending == "atexit, in its own thread":
        assert lines == {"stored 100000"}
    if "daemon" not in ending:
        assert lines
