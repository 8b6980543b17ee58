"""The way in: a cluster's address, a token, and the transport that everything shares."""

from __future__ import annotations

import os
import ssl
from types import TracebackType
from typing import Any

import httpx

from .._transport import ZeroCopyTransport
from ..errors import UsageError
from .bucket import Bucket
from .cluster_map import ClusterMap, Origin
from .endpoint import Endpoint, Timeouts
from .secret import Secret


class Client:
    """A cluster, by the URL of one of its proxies. Threads may share it; `close()` it, or use it as a context manager.

    `endpoint`: http(s)://host:port; None reads `AIS_ENDPOINT`. `token`: a bearer token; None reads `AIS_AUTHN_TOKEN`;
    it is sent to members of the cluster map only, and never shown. `ssl_context`: for https; None verifies against the
    system's CAs. `transport`: any httpx transport, closed with the client; None is fastmpu's own, which copies nothing.
    Proxies of the environment (`HTTP_PROXY`) are not used. No request is sent before the first call that needs one.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token: str | Secret | None = None,
        timeouts: Timeouts | None = None,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
    ):
        if not isinstance(endpoint, (str, type(None))):
            raise UsageError(f"endpoint={endpoint!r}: it must be a URL such as 'http://host:8080'")
        if not isinstance(token, (str, Secret, type(None))):
            raise UsageError(f"the token must be a string, not {type(token).__name__} (its value is not shown)")
        url = endpoint or os.environ.get("AIS_ENDPOINT", "")
        if not url:
            raise UsageError("no endpoint: give the URL of an AIStore proxy, or set AIS_ENDPOINT=http://host:port")
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise UsageError(f"bad endpoint: {error}") from None
        token = token or os.environ.get("AIS_AUTHN_TOKEN") or None
        if isinstance(token, str):
            token = Secret(token)
        if transport is None:
            if ssl_context is None and origin.scheme == "https":
                ssl_context = ssl.create_default_context()
            transport = ZeroCopyTransport(tls=ssl_context)
        self.endpoint = Endpoint(str(origin), transport, token, timeouts or Timeouts())

    def __repr__(self) -> str:
        return f"<Client {self.endpoint!r}>"

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
