"""The control port: faults, the truth log and targets over HTTP, for tests that are not written in Python.

| request                       | does                                                                     |
|-------------------------------|--------------------------------------------------------------------------|
| `GET /`                       | the endpoint, the targets, and this list                                 |
| `GET /menu`                   | every fault with its parameters                                          |
| `GET /faults`                 | the faults in force, with counters                                       |
| `POST /faults`                | add: JSON (one or a list), or text, one fault a line; answers with those |
| `DELETE /faults`              | remove all; `DELETE /faults/ID` removes one                              |
| `GET /faults/log`             | what has happened, as JSON lines                                         |
| `GET /truth?part=3`           | the truth log as JSON lines; any field of a record chooses               |
| `DELETE /truth`               | forget it                                                                |
| `GET /truth/violations`       | a list of sentences                                                      |
| `GET /truth/quiet?seconds=5`  | waits until all handlers have ended; `{"quiet": true}`                   |
| `POST /targets/N/restart`     | also `?keep_uploads=true`; N is a number from 0, or an id                |
| `POST /targets/N/kill`        | also `maintain`, `activate`, `remove`                                    |

What is wrong with a request is answered with 400 or 404 and `{"error": "..."}`. There are no secrets to keep: whoever
reaches the port may do all of this. It listens where the cluster does.

Threads: one accepts, each connection has its own (the standard library's server); they call the cluster, whose faults
and truth log take any thread. Deeds on targets are done one at a time.
"""

from __future__ import annotations

import json
import socket
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from fastmpu.mock.fault_menu import MENU, FaultError
from fastmpu.mock.faults import Fault, parse_faults

if TYPE_CHECKING:
    from fastmpu.mock.cluster import Cluster, Target

__all__ = ["ControlPort"]

_BODY_LIMIT = 1 << 20
_QUIET_LIMIT = 60.0  # seconds
_WHOLE_NUMBERS = ("part", "n", "connection", "status", "announced", "received")
_DEEDS = ("restart", "kill", "maintain", "activate", "remove")


class _Wrong(Exception):
    """A request that cannot be done: the status, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ControlPort:
    """Serves from `start` to `stop`."""

    def __init__(self, cluster: Cluster, host: str, port: int) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        control = self

        class _Handler(_Control):
            answer: ClassVar[Callable[..., tuple[str, str]]] = staticmethod(control.answer)

        class _Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = _family(host)

        self._server = _Server((host, port), _Handler)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="mock-control", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[str, str]:
        """The answer's text and its type. _Wrong or FaultError for what cannot be done."""
        faults, truth = self._cluster.faults, self._cluster.truth
        match (method, *path.strip("/").split("/")):
            case ("GET", ""):
                return _json(self._overview())
            case ("GET", "menu"):
                return _json([_menu_entry(name) for name in MENU])
            case ("GET", "faults"):
                return _json([handle.as_json() for handle in faults])
            case ("POST", "faults"):
                return _json([faults.add(fault).as_json() for fault in _faults_in(body)])
            case ("DELETE", "faults"):
                faults.clear()
            case ("GET", "faults", "log"):
                return faults.log_json_lines(), "application/x-ndjson"
            case ("DELETE", "faults", id_):
                if not (id_.isdecimal() and faults.remove(int(id_))):
                    raise _Wrong(404, f"there is no fault {id_}")
            case ("GET", "truth"):
                return truth.to_json_lines(**_fields_in(query)), "application/x-ndjson"
            case ("DELETE", "truth"):
                truth.clear()
            case ("GET", "truth", "violations"):
                return _json(truth.violations())
            case ("GET", "truth", "quiet"):
                return _json({"quiet": truth.wait_until_quiet(_seconds_in(query))})
            case ("POST", "targets", name, deed) if deed in _DEEDS:
                with self._lock:
                    _do(self._target(name), deed, query)
            case _:
                raise _Wrong(404, f"there is no {method} {path}; GET / lists what there is")
        return _json({})

    def _overview(self) -> dict[str, object]:
        cluster = self._cluster
        targets = [{"number": at, "id": one.id, "url": one.url} for at, one in enumerate(cluster.targets)]
        lines = [line.strip("| ") for line in (__doc__ or "").splitlines() if line.startswith("| `")]
        return {"endpoint": cluster.endpoint, "targets": targets, "requests": lines}

    def _target(self, name: str) -> Target:
        targets = self._cluster.targets
        for at, target in enumerate(targets):
            if name in (str(at), target.id):
                return target
        raise _Wrong(404, f"there is no target {name}; there are {', '.join(str(at) for at in range(len(targets)))}")


class _Control(BaseHTTPRequestHandler):
    """One connection: HTTP in, text out."""

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds
    answer: ClassVar[Callable[..., tuple[str, str]]]

    def _serve(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        try:
            text, type_ = self.answer(self.command, url.path, query, self._body())
            status = 200
        except _Wrong as wrong:
            status, (text, type_) = wrong.status, _json({"error": str(wrong)})
        except (ValueError, RuntimeError) as error:  # FaultError, unknown fields, a cluster that has stopped
            status, (text, type_) = 400, _json({"error": str(error)})
        data = text.encode("utf-8", "surrogateescape")
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that the standard library looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overridden
        """Nothing is printed."""

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _BODY_LIMIT or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise _Wrong(400, f"a body has a Content-Length of at most {_BODY_LIMIT}")
        return self.rfile.read(int(length))


def _faults_in(body: bytes) -> list[Fault]:
    """All of them are checked before the first is added."""
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith(("{", "[")):
        found = parse_faults(text)
    else:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise FaultError(f"this is no JSON: {error}") from error
        found = [Fault.from_json(item) for item in (value if isinstance(value, list) else [value])]
    if not found:
        raise FaultError("the body holds no fault")
    return found


def _fields_in(query: dict[str, str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in query.items():
        try:
            fields[key] = int(value) if key in _WHOLE_NUMBERS else value
        except ValueError:
            raise _Wrong(400, f"{key} is a whole number, not {value!r}") from None
    return fields


def _seconds_in(query: dict[str, str]) -> float:
    try:
        return min(max(float(query.get("seconds", "5")), 0.0), _QUIET_LIMIT)
    except ValueError:
        raise _Wrong(400, f"seconds is a number, not {query['seconds']!r}") from None


def _do(target: Target, deed: str, query: dict[str, str]) -> None:
    if deed == "restart":
        target.restart(keep_uploads=query.get("keep_uploads") == "true")
    else:
        getattr(target, deed)()


def _menu_entry(name: str) -> dict[str, object]:
    kind = MENU[name]
    parameters = [
        {"name": one.name, "takes": one.meaning, "default": one.show(one.default), "text": one.text}
        for one in kind.parameters
    ]
    return {"fault": name, "group": kind.group, "about": kind.about, "text": kind.text, "parameters": parameters}


def _json(value: object) -> tuple[str, str]:
    return json.dumps(value, ensure_ascii=False) + "\n", "application/json"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
