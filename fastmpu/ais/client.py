"""The way in: a cluster's address, a token, TLS, and the transport that everything shares."""

from __future__ import annotations

import os
import re
import ssl
import urllib.parse
import warnings
from types import TracebackType
from typing import Any, Final, NoReturn

import httpx

from .._transport import ZeroCopyTransport
from ..errors import UsageError
from .bucket import Bucket
from .cluster_map import ClusterMap, Origin
from .credentials import Credentials, TokenSource, held
from .endpoint import Endpoint
from .secret import Secret
from .timeouts import Timeouts
from .tls import NOWHERE, ClientCert, Elsewhere, FilePath, Tls, UnverifiedTlsWarning

# A name's labels (RFC 1123) and underscores, as container networks have them; or IPv6, as urlsplit has checked it.
_LABEL: Final = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|[0-9a-f:.]*:[0-9a-z:.%]*")


class Client:
    """A cluster, by the URL of one of its proxies. Threads may share it, forked children not (ForkError); `close()` it,
    or use it as a context manager. It does not pickle.

    `endpoint`: http(s)://host:port; None reads `AIS_ENDPOINT`. `token`: a bearer token, or a function that returns one:
    it is asked before the first request, and again, once for all threads, when the cluster refuses its token (401),
    whose request is then sent once more. None reads `AIS_AUTHN_TOKEN`, or the file that `AIS_AUTHN_TOKEN_FILE` names.
    The token is sent to members of the cluster map only, and never shown.

    For https, each argument before its environment variable: `ca_file` (`AIS_CLIENT_CA`): trust these certificates
    instead of the system's. `client_cert=(certificate, key)` (`AIS_CRT`, `AIS_CRT_KEY`), for an encrypted key with a
    third, a function that returns its password. `skip_verify` (`AIS_SKIP_VERIFY_CRT`): trust anybody; warns. Or an
    `ssl_context` of your own, for all of these. Files are read now, and UsageError says what is wrong with them.

    `timeouts`: None is the defaults, with `AIS_CONNECT_TIMEOUT` and `AIS_READ_TIMEOUT` (seconds, 0 for none).
    `transport`: any httpx transport, closed with the client; None is fastmpu's own, which copies nothing. Proxies of
    the environment (`HTTP_PROXY`) are not used. No request is sent before the first call that needs one.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token: str | Secret | TokenSource | None = None,
        timeouts: Timeouts | None = None,
        ca_file: FilePath | None = None,
        client_cert: ClientCert | None = None,
        skip_verify: bool | None = None,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
    ):
        token = held(token)  # first of all, so that no traceback shows it
        origin = _origin(endpoint)
        credentials = Credentials.of(token)
        if not isinstance(timeouts, (Timeouts, type(None))):
            raise UsageError(f"timeouts={timeouts!r}: it must be a Timeouts, as in Timeouts(connect=2)")
        given = {"ca_file": ca_file, "client_cert": client_cert, "skip_verify": skip_verify, "ssl_context": ssl_context}
        _check_together(origin, [name for name, value in given.items() if value is not None], transport)
        verified = True
        elsewhere = NOWHERE
        if transport is None:
            elsewhere = Elsewhere()
            if ssl_context is not None:
                elsewhere = Elsewhere(
                    obstacle="the client was given a ready ssl_context=, which stays in this process; give it ca_file= "
                    "and client_cert= instead"
                )
            if ssl_context is None and origin.scheme == "https":
                tls = Tls.of(ca_file, client_cert, skip_verify)
                ssl_context = tls.context()
                elsewhere = tls.elsewhere()
                verified = not tls.skip_verify
            transport = ZeroCopyTransport(tls=ssl_context)
        self.endpoint = Endpoint(
            str(origin), transport, credentials, timeouts or Timeouts.of(), verified=verified, elsewhere=elsewhere
        )
        if not verified:
            warnings.warn(
                f"{origin}: certificates are not verified (skip_verify, AIS_SKIP_VERIFY_CRT): whoever is on the way "
                "can read and change everything, the token included",
                UnverifiedTlsWarning,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return f"<Client {getattr(self, 'endpoint', 'unfinished')!r}>"  # a traceback may show it half made

    def __reduce__(self) -> NoReturn:
        self.endpoint.__reduce__()

    def bucket(self, name: str, provider: str = "ais", namespace: str = "") -> Bucket:
        """A bucket of this cluster; InvalidNameError for names that AIStore would refuse. Sends nothing."""
        return Bucket(self, name, provider, namespace)

    def cluster_map(self) -> ClusterMap:
        """The cluster's members, as of now."""
        return self.endpoint.cluster_map(fresh=True)

    def close(self) -> None:
        """Close all connections that are at rest; those in use are closed as they come back."""
        self.endpoint.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | Any) -> None:
        self.close()


def _origin(endpoint: Any) -> Origin:
    if not isinstance(endpoint, (str, type(None))):
        raise UsageError(f"endpoint={endpoint!r}: it must be a URL such as 'http://host:8080'")
    url = endpoint or os.environ.get("AIS_ENDPOINT", "")
    if not url:
        raise UsageError("no endpoint: give the URL of an AIStore proxy, or set AIS_ENDPOINT=http://host:port")
    if "@" in url:
        raise UsageError("bad endpoint: it has a user or a password in it (not shown); tokens go into token=")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"bad endpoint: {url!r} has characters that no URL has")
    try:
        origin, parts = Origin.of(url), urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UsageError(f"bad endpoint {url!r}: {error}") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError(f"bad endpoint: {url!r} has more than a scheme, a host and a port; write {origin}")
    if not _HOST.fullmatch(origin.host) or parts.port == 0 or parts.netloc.endswith(":"):
        raise UsageError(f"bad endpoint: {url!r} has no host, or no port, that one could connect to")
    return origin


def _check_together(origin: Origin, tls: list[str], transport: httpx.BaseTransport | None) -> None:
    """Of what is given, what would silently count for nothing. `tls`: names of arguments."""
    if transport is not None and not isinstance(transport, httpx.BaseTransport):
        raise UsageError(f"transport={transport!r}: it must be an httpx.BaseTransport")
    if not tls:
        return
    if transport is not None:
        raise UsageError(f"{tls[0]}= and transport= exclude each other: a transport has its own TLS")
    if origin.scheme != "https" and tls != ["skip_verify"]:
        raise UsageError(f"{tls[0]}= is for https, and the endpoint is {origin}: nothing would be encrypted")
    if "ssl_context" in tls and len(tls) > 1:
        raise UsageError(f"ssl_context= and {tls[0]}= exclude each other: the context says all")
