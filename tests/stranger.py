"""Servers that are no AIStore, on real sockets, which remember what they were sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stranger:
    """Answers every request alike: `status`, `headers`, `body`. `requests` has each one's first line and headers."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.requests: list[str] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stranger.requests.append(f"{self.requestline}\n{self.headers}")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def stranger(status: int = 200, body: bytes = b"", **headers: str) -> Iterator[Stranger]:
    """Underscores in header names stand for dashes."""
    server = Stranger(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    server.start()
    try:
        yield server
    finally:
        server.stop()


WEB_PAGE = b"<!doctype html><html><title>Welcome to nginx!</title></html>"
