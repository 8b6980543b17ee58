"""The canary: stories that go well and badly, with a token that must be found nowhere afterwards.

Each story runs with all loggers at DEBUG; its output, logs, warnings, reprs, receipts, pickles and exceptions are
searched, tracebacks with the locals of every frame included. (This module's own frames keep the token out of locals.)
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from canary import CANARY, PIECES, holds_canary
from interposer import Interposer, lose_answer, refuse, time_out, unreachable
from stranger import WEB_PAGE, stranger

import fastmpu
from fastmpu import mock
from fastmpu._transport import BodyStream, BufferBody, Reply, ScriptedStream, ZeroCopyTransport
from fastmpu.ais.secret import Secret

OTHER = f"another-{CANARY}"
DATA = b"x" * 20_000


def shown(error: BaseException, requests: bool = True) -> Iterator[str]:
    """All that a log, a debugger's printout or an error collector would show of it, and of its causes.

    `requests`: pickled as well, with httpx's errors.
    """
    at: BaseException | None = error
    while at is not None:
        yield from (repr(at), str(at), repr(at.args), repr(vars(at)), *getattr(at, "__notes__", ()))
        if isinstance(at, fastmpu.FastMPUError) or (requests and isinstance(at, httpx.HTTPError)):
            yield repr(pickle.dumps(at))
        at = at.__cause__ or at.__context__
    yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
    yield "\n".join(traceback.format_exception(error))


class Watch:
    """What a story let be seen."""

    def __init__(self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
        self._capfd = capfd
        self._caplog = caplog
        self.seen: list[str] = []
        caplog.set_level(logging.DEBUG)

    def run(self, story: Callable[[], object], requests: bool = True) -> BaseException | None:
        """The story's exception, if it had one."""
        error: BaseException | None = None
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                self.show(story())
            except Exception as caught:  # noqa: BLE001 - whatever comes is searched
                error = caught
                self.seen += shown(error, requests)
        self.seen += [str(each.message) for each in told]
        return error

    def show(self, value: Any) -> None:
        self.seen += [repr(value), str(value)]
        if isinstance(value, httpx.Response):
            self.seen += [repr(value.headers), repr(value.request), repr(value.request.headers.raw)]
            self.seen.append(repr(pickle.dumps(value)))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            self.seen += [repr(dataclasses.asdict(value)), repr(pickle.dumps(value))]

    def check(self) -> None:
        out, err = self._capfd.readouterr()
        records = [f"{record.getMessage()} {record.args!r} {vars(record)!r}" for record in self._caplog.records]
        everything = "\n".join([out, err, self._caplog.text, *records, *self.seen])
        assert [piece for piece in PIECES if piece in everything] == []


@pytest.fixture
def watch(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    watch = Watch(capfd, caplog)
    yield watch
    watch.check()


@pytest.fixture
def cluster() -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=2, tokens=[CANARY]) as cluster:
        yield cluster


@pytest.fixture
def tap() -> Interposer:
    return Interposer()


@pytest.fixture
def client(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Client]:
    timeouts = fastmpu.Timeouts(fence=0.01)
    with fastmpu.Client(cluster.endpoint, token=CANARY, transport=tap, timeouts=timeouts) as client:
        yield client


def test_the_watch_sees() -> None:
    """A search that finds nothing has to be able to find something."""

    def leaks(token: str) -> None:
        raise ValueError("no word of it")

    with pytest.raises(ValueError, match="word") as caught:
        leaks(CANARY)
    assert any(CANARY in text for text in shown(caught.value))
    request = httpx.Request("GET", "http://h", headers={"Authorization": f"Bearer {CANARY}"})
    assert any(CANARY in text for text in shown(httpx.ReadError("x", request=request)))


LEAKS = {
    "stdout": "print(CANARY)",
    "stderr": "import sys; print(CANARY, file=sys.stderr)",
    "a descriptor": "import os; os.write(2, CANARY.encode())",
    "a log": "import logging; logging.getLogger('fastmpu.x').debug('it is %s', CANARY)",
    "a piece": "print(CANARY[11:36])",
    "a failure": "assert CANARY == 'x'",
    "an error": "raise ValueError(f'token {CANARY}')",
    "a local of a failed test": "token = CANARY; assert False",
    "setup": "pass",
    "a warning": "import warnings; warnings.warn(f'it is {CANARY}')",
}


@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_test_is_watched(tmp_path: Path, processes: str) -> None:
    """The hooks in `conftest.py`, tried on a suite that leaks: with and without xdist each leak fails its test, is
    named, and is not told again; what leaks nothing passes."""
    here = Path(__file__).parent
    for name in ("conftest.py", "canary.py"):
        shutil.copy(here / name, tmp_path)
    stories = "".join(
        f"def test_{number}({'loud' if kind == 'setup' else ''}):\n    {code}\n"
        for number, (kind, code) in enumerate(LEAKS.items())
    )
    loud = "@pytest.fixture\ndef loud():\n    print(CANARY)\n"
    innocent = (
        "def test_innocent():\n    import warnings; warnings.warn('look out')\n    print('a token', len(CANARY))\n"
    )
    head = "import pytest\nfrom canary import CANARY\n"
    (tmp_path / "test_leaks.py").write_text(head + loud + stories + innocent)
    command = [sys.executable, "-m", "pytest", "-n", processes, "-p", "no:cacheprovider", "--showlocals", "-rA"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert not holds_canary(done.stdout + done.stderr)
    # A warning is heard of when its test has passed: then it is an error, as one in a fixture is.
    assert f" {len(LEAKS) - 2} failed, 2 passed, 2 warnings, 2 errors in " in done.stdout
    assert "look out" in done.stdout
    assert done.stdout.count("\nthe token was shown in: ") == len(LEAKS)
    assert "PASSED test_leaks.py::test_innocent" in done.stdout


def test_the_judge_of_the_chaos_uses_the_same_token() -> None:
    """`bench` is no part of the tests, and its uploads' token is to be found all the same."""
    assert f'TOKEN = "{CANARY}"' in (Path(__file__).parents[1] / "bench" / "judge.py").read_text()


def test_all_goes_well(client: fastmpu.Client, watch: Watch) -> None:
    """Receipts, answers, progress, reprs, listings."""
    obj = client.bucket("b").create().object("o")
    events: list[fastmpu.ProgressEvent] = []
    assert watch.run(lambda: obj.upload(DATA, part_size=5000, progress=events.append)) is None
    for value in (client, client.endpoint, obj, obj.bucket, obj.head(), *events, client.cluster_map()):
        watch.show(value)
    upload = obj.multipart_upload().create()
    watch.show(upload)
    watch.show(upload.add_part(1).put_content(b"abc"))
    watch.show(upload.complete())
    watch.show(obj.put(b"abc"))
    assert watch.run(lambda: obj.get_reader().read_all()) is None


FAULTS: dict[str, Any] = {
    "answer lost": lose_answer,
    "too late": time_out,
    "nobody there": unreachable,
    "forbidden": refuse(403, message=f"you, {CANARY}, may not"),
    "expired": refuse(401, message=f'invalid token from header "Authorization": token expired: {CANARY}'),
    "long words": refuse(500, message="." * 380 + CANARY + "." * 1000),
}


@pytest.mark.parametrize("kind", ["map", "create", "locate", "part", "complete", "head", "bucket"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_fails(client: fastmpu.Client, tap: Interposer, watch: Watch, kind: str, fault: str) -> None:
    """AIStore's own 401 repeats the token; an error that shows its words must not."""

    def story() -> object:
        obj = client.bucket("b").create(exist_ok=True).object("o")
        return obj.upload(DATA, part_size=5000, engine="inline", retry=fastmpu.RetryPolicy(attempts=1))

    tap.on(kind, FAULTS[fault])
    watch.run(story)


def test_the_real_401(cluster: mock.Cluster, client: fastmpu.Client, watch: Watch) -> None:
    """In a body, and for HEAD in a header."""
    obj = client.bucket("b").create().object("o")
    assert cluster.tokens is not None
    cluster.tokens.expire(CANARY)
    for act in (obj.head, lambda: obj.put(b"x"), obj.delete, obj.bucket.head, client.cluster_map):
        error = watch.run(act)
        assert isinstance(error, fastmpu.errors.AuthError)
        assert "***" in str(error)


def test_a_renewed_token(cluster: mock.Cluster, watch: Watch) -> None:
    """Neither the old one nor the new one."""
    given = iter([OTHER, CANARY])
    with fastmpu.Client(cluster.endpoint, token=lambda: next(given)) as client:
        assert watch.run(lambda: client.bucket("b").create()) is None
        watch.show(client)
    with fastmpu.Client(cluster.endpoint, token=lambda: f"{CANARY}\r\nX-Evil: 1") as client:
        assert isinstance(watch.run(client.cluster_map), fastmpu.errors.UsageError)


@pytest.mark.parametrize("end", [" ", "\r\nX: y", "\0", "\xe9"])
def test_a_token_that_is_refused_here(watch: Watch, end: str) -> None:
    held = Secret.hold(CANARY + end)
    assert watch.run(lambda: fastmpu.Client("http://127.0.0.1:1", token=held.reveal())) is not None
    assert watch.run(lambda: fastmpu.Secret(held.reveal())) is not None
    assert watch.run(lambda: fastmpu.Client("nonsense", token=CANARY)) is not None
    assert watch.run(lambda: fastmpu.Client("http://h", token=CANARY.encode())) is not None  # type: ignore[arg-type]
    assert watch.run(lambda: fastmpu.Client("http://h", token=CANARY, timeouts=3)) is not None  # type: ignore[arg-type]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ECHO = f"Authorization: Bearer {CANARY}".encode()
WIRES: dict[str, list[bytes | Reply]] = {
    "silence": [Reply(b"")],
    "end": [Reply(b"", end="close")],
    "reset": [Reply(b"", end=ConnectionResetError(104, "reset"))],
    "reset while sending": [Reply(b"", at=300, send_error=ConnectionResetError(104, "reset"))],
    "pipe": [Reply(b"", at=10, send_error=BrokenPipeError(32, "pipe"))],
    "stuck while sending": [Reply(b"", at=300)],
    "an echo": [ECHO],
    "an echo in the head": [b"HTTP/1.1 200 OK\r\n" + ECHO + b"\r\n folded\r\n\r\n"],
    "an echo in a bad line": [b"HTTP/1.1 200 OK\r\n" + ECHO[:13] + b" " + ECHO[13:] + b"\r\n\r\n"],
    "an echo in a length": [b"HTTP/1.1 200 OK\r\nContent-Length: " + CANARY.encode() + b"\r\n\r\n"],
    "an echo as encoding": [b"HTTP/1.1 200 OK\r\nContent-Encoding: " + CANARY.encode() + b"\r\n\r\n"],
    "an echo cut": [Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + ECHO, end="close")],
    "an echo reset": [
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + ECHO, end=ConnectionResetError(104, "r"))
    ],
    "an echo in chunks": [Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n" + ECHO, end="close")],
    "an echo for a chunk's size": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + ECHO + b"\r\n"],
    "an echo as an error": [b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(ECHO) + ECHO],
    "an echo as a redirect": [b"HTTP/1.1 307 No\r\nContent-Length: 0\r\nLocation: http://h/" + ECHO + b"\r\n\r\n"],
}


@pytest.mark.parametrize("wire", WIRES)
def test_the_wire_breaks(watch: Watch, wire: str) -> None:
    """Wherever it does, and whatever the other side sends back: frames below hold heads and buffers at that time."""
    transport = ZeroCopyTransport(connect=ScriptedStream.connector(WIRES[wire]))
    timeouts = fastmpu.Timeouts(connect=0.1, write=0.1, response=0.1, fence=0.05)
    with fastmpu.Client("http://127.0.0.1:1", token=CANARY, timeouts=timeouts, transport=transport) as client:
        assert watch.run(client.cluster_map) is not None


@pytest.mark.parametrize("wire", WIRES)
def test_the_wire_breaks_below_httpx(watch: Watch, wire: str) -> None:
    """The transport by itself, for any user of httpx: neither its errors' words nor its frames. (The request that
    httpx's errors carry is the caller's own.)"""
    stream = BodyStream(BufferBody(DATA))
    request = httpx.Request("PUT", "http://h/x", headers={"Authorization": f"Bearer {CANARY}"}, stream=stream)
    request.extensions["timeout"] = {"connect": 0.1, "write": 0.1, "read": 0.1}

    def story() -> None:
        with ZeroCopyTransport(connect=ScriptedStream.connector(WIRES[wire])) as transport:
            stream = transport.handle_request(request).stream
            assert isinstance(stream, httpx.SyncByteStream)
            for piece in stream:
                del piece

    watch.run(story, requests=False)


@pytest.mark.parametrize("kind", ["tls", "https to http", "no such host"])
def test_nobody_is_there(watch: Watch, kind: str) -> None:
    with mock.Cluster(targets=1, tls="self-made") as strange, stranger(200) as plain:
        url = {"tls": strange.endpoint, "https to http": plain.url.replace("http:", "https:")}.get(
            kind, "http://h.invalid"
        )
        with fastmpu.Client(url, token=CANARY) as client:
            assert watch.run(client.cluster_map) is not None


def test_a_stranger_answers(watch: Watch) -> None:
    with (
        stranger(200, WEB_PAGE, Content_Type="text/html") as server,
        fastmpu.Client(server.url, token=CANARY) as client,
    ):
        assert watch.run(lambda: client.bucket("b").head()) is not None
        assert any(CANARY in request for request in server.requests), "it was named as the endpoint"


def test_a_source_fails_and_a_cancel(client: fastmpu.Client, watch: Watch) -> None:
    obj = client.bucket("b").create().object("o")
    cancel = threading.Event()
    cancel.set()
    assert watch.run(lambda: obj.upload(DATA, part_size=5000, cancel=cancel)) is not None
    assert watch.run(lambda: obj.upload("/no/such/file")) is not None
    assert watch.run(lambda: obj.upload(DATA, part_size=5000, progress=lambda _: 1 // 0)) is None
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_what_the_transport_itself_refuses(watch: Watch) -> None:
    """h11 says no to a header while the secret one is at hand."""
    transport = ZeroCopyTransport(connect=ScriptedStream.connector([OK]))
    for headers in (
        {"Authorization": f"Bearer {CANARY}", "X-Bad": "a\r\nb"},
        {"Authorization": f"Bearer {CANARY}\r\nX: y"},
        {"Authorization": f"Bearer {CANARY}", "Content-Length": "-1"},
    ):
        request = httpx.Request("PUT", "http://h/x", headers=headers, stream=BodyStream(BufferBody(b"x")))
        headers = {}
        error = watch.run(functools.partial(transport.handle_request, request), requests=False)
        assert isinstance(error, httpx.LocalProtocolError)


def test_a_stranger_of_a_redirect_hears_nothing(client: fastmpu.Client, tap: Interposer, watch: Watch) -> None:
    """Not even a connection."""
    obj = client.bucket("b").create().object("o")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        tap.on(
            "locate",
            lambda *_: httpx.Response(307, headers={"Location": f"{url}/?pid=p&utm=u"}, stream=httpx.ByteStream(b"")),
        )
        assert isinstance(watch.run(lambda: obj.put(b"x")), fastmpu.errors.RedirectRefusedError)
        with pytest.raises(TimeoutError):
            listener.accept()
