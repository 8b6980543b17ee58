"""The proxy's redirects: where they lead and how AIStore writes them (protocol 1.2)."""

from __future__ import annotations

import time
import urllib.parse

from fastmpu.mock.answers import Answer
from fastmpu.mock.cluster_map import Node
from fastmpu.mock.heads import Request
from fastmpu.mock.signing import Signer, base_36

__all__ = ["redirect"]

_SPECIAL = frozenset("%?#+ ")  # only these make AIStore escape the path
_PATH_SAFE = "$&+,/:;=@"  # what Go's net/url leaves alone in a path, beside letters, digits and -_.~
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


def redirect(
    request: Request, proxy: Node, target: Node, *, raw: bool, signer: Signer | None = None, map_version: int = 0
) -> Answer:
    """301 with a little HTML for GET, 307 for the others. With `raw`, names stand in it unescaped, as in v5.0."""
    marker = [("pid", proxy.id), ("utm", base_36(time.time_ns()))]
    if signer is not None:
        marker = sorted(marker + signer.query(request, proxy.id, map_version))
    if raw and _SPECIAL.isdisjoint(request.path):
        query = "&".join(filter(None, [request.query.raw, urllib.parse.urlencode(marker)]))
        url = f"{target.url}{request.path}?{query}"
    else:
        items = urllib.parse.parse_qsl(request.query.raw, keep_blank_values=True, errors="surrogateescape")
        pairs = sorted(items + marker, key=lambda item: item[0])
        path = urllib.parse.quote(request.path, safe=_PATH_SAFE, errors="surrogateescape")
        url = f"{target.url}{path}?{urllib.parse.urlencode(pairs, errors='surrogateescape')}"
    location = ("Location", _ascii(url))
    if request.method == "GET":
        body = f'<a href="{url.translate(_HTML)}">Moved Permanently</a>.\n\n'
        return Answer(301, [_HTML_TYPE, location], body.encode("utf-8", "surrogateescape"))
    return Answer(307, [_HTML_TYPE, location] if request.method == "HEAD" else [location])


_HTML_TYPE = ("Content-Type", "text/html; charset=utf-8")


def _ascii(url: str) -> str:
    """Bytes beyond ASCII escaped in lower-case hex, as Go's http.Redirect does; nothing else is touched."""
    if url.isascii():
        return url
    data = url.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte < 128 else f"%{byte:02x}" for byte in data)
