"""How the mock's tests talk to it: plain sockets, no client code of fastmpu. What they expect is docs/protocol.md's."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from fastmpu.mock import Cluster

SECONDS = 10.0
SOON = 5.0
_NUMBERS = count(1)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it becomes true within a moment: a handler ends, and notes it, after its client has gone."""
    end = time.monotonic() + SOON
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    return holds()


@dataclass
class Reply:
    """An answer. `whole` is False if the connection ended before the announced length."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    @property
    def error(self) -> dict[str, object]:
        text = self.headers["hdr-error"] if "hdr-error" in self.headers else self.body.decode()
        decoded: dict[str, object] = json.loads(text)
        return decoded

    @property
    def message(self) -> str:
        return str(self.error["message"])


class Call:
    """One connection to a node, "host:port" or URL; with a context under TLS."""

    def __init__(self, to: str, context: ssl.SSLContext | None = None) -> None:
        host, _, port = to.removeprefix("http://").removeprefix("https://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            plain = self.socket
            try:
                self.socket = context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
            except BaseException:
                plain.close()
                raise
        self.authority = f"{host}:{port}"
        self._arrived = b""

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, method: str, target: str, length: int | None, headers: dict[str, str] | None = None) -> None:
        fields = {"Host": self.authority} | ({} if length is None else {"Content-Length": str(length)})
        lines = [f"{name}: {value}" for name, value in (fields | (headers or {})).items()]
        self.send("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode())

    def ask(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        self.head(method, target, len(body) if body or method in ("PUT", "POST") else None, headers)
        self.send(body)
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """The next answer; ConnectionError if the connection ends without one."""
        while b"\r\n\r\n" not in self._arrived:
            if not self._receive():
                raise ConnectionError("no answer")
        head, _, self._arrived = self._arrived.partition(b"\r\n\r\n")
        line, *fields = head.decode("utf-8", "surrogateescape").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(line.split()[1])
        length = 0 if method == "HEAD" or status < 200 else int(headers.get("content-length", -1))
        while (length < 0 or len(self._arrived) < length) and self._receive():
            pass
        body = self._arrived if length < 0 else self._arrived[:length]
        self._arrived = self._arrived[len(body) :]
        return Reply(status, headers, body, length < 0 or len(body) == length)

    def half_close(self) -> None:
        socket.socket.shutdown(self.socket, socket.SHUT_WR)  # a bare FIN under TLS, too

    def ended(self) -> bool:
        """Wait for the peer's end; True if nothing else comes first."""
        return not self._arrived and not self._receive()

    def _receive(self) -> bool:
        try:
            some = self.socket.recv(1 << 16)
        except ConnectionResetError:
            some = b""
        self._arrived += some
        return bool(some)


def ask(
    to: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Reply:
    with Call(to, context) as call:
        return call.ask(method, target, body, headers)


class Talk:
    """Requests about one bucket, made the way a good client makes them: redirect first, then straight to the target."""

    def __init__(self, cluster: Cluster, *, namespace: str = "", **props: object) -> None:
        self.cluster = cluster
        self.name = f"b{next(_NUMBERS)}"
        self.scope = "?provider=ais" + (f"&namespace={urllib.parse.quote(namespace, safe='')}" if namespace else "")
        self.create(**props)

    def create(self, **props: object) -> None:
        message = {"action": "create-bck", "value": props or None}
        assert self.bucket("POST", message).status == 200

    def bucket(self, method: str, message: object) -> Reply:
        return ask(self.cluster.endpoint, method, f"/v1/buckets/{self.name}{self.scope}", json.dumps(message).encode())

    def list(self, **value: object) -> list[str]:
        """The names on one page."""
        reply = self.bucket("GET", {"action": "list", "value": value})
        assert reply.status == 200, reply.body
        return [entry["name"] for entry in json.loads(reply.body)["entries"] or []]

    def path(self, name: str, query: str = "") -> str:
        return f"/v1/objects/{self.name}/{urllib.parse.quote(name, errors='surrogateescape')}{self.scope}{query}"

    def owner(self, name: str) -> tuple[str, str]:
        """The owner's authority, and the marker of a redirect to it."""
        reply = ask(self.cluster.endpoint, "PUT", self.path(name))
        assert reply.status == 307, reply.body
        url = urllib.parse.urlsplit(reply.headers["location"])
        query = dict(urllib.parse.parse_qsl(url.query))
        return url.netloc, f"&pid={query['pid']}&utm={query['utm']}"

    def send(
        self, method: str, name: str, body: bytes = b"", query: str = "", headers: dict[str, str] | None = None
    ) -> Reply:
        to, marker = self.owner(name)
        return ask(to, method, self.path(name, query + marker), body, headers)

    def put(self, name: str, body: bytes) -> Reply:
        return self.send("PUT", name, body)

    def get(self, name: str, extent: str = "") -> Reply:
        return self.send("GET", name, headers={"Range": f"bytes={extent}"} if extent else None)

    def head(self, name: str, props: str = "") -> Reply:
        return self.send("HEAD", name, query=f"&props={props}" if props else "")

    def upload(self, name: str) -> Upload:
        reply = self.send("POST", name, b'{"action":"mpt-upload"}')
        assert reply.status == 200, reply.body
        return Upload(self, name, reply.body.decode())


@dataclass
class Upload:
    talk: Talk
    name: str
    id: str

    def part(self, number: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        return self.talk.send("PUT", self.name, body, self._query(number), headers)

    @contextmanager
    def part_in_flight(self, number: int, size: int) -> Iterator[Call]:
        """A connection on which the head of a part has gone out, and the handler has begun."""
        to, marker = self.talk.owner(self.name)
        with Call(to) as call:
            expect = {"Expect": "100-continue"}
            call.head("PUT", self.talk.path(self.name, self._query(number) + marker), size, expect)
            assert call.reply().status == 100
            yield call

    def complete(self, numbers: list[int]) -> Reply:
        value = [{"part-number": number, "etag": ""} for number in numbers]
        message = json.dumps({"action": "mpt-complete", "value": value}).encode()
        return self.talk.send("POST", self.name, message, f"&uploadId={self.id}")

    def abort(self) -> Reply:
        return self.talk.send("DELETE", self.name, b'{"action":"mpt-abort"}', f"&uploadId={self.id}")

    def _query(self, number: int) -> str:
        return f"&uploadId={self.id}&partNumber={number}"
