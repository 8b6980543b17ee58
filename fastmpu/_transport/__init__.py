"""HTTP/1.1 over sockets with bodies that are never copied in user space; nothing of AIStore is in it."""

from .body import Body, BufferBody, FileBody, FileRange, Piece, ShortBody, WithheldBody
from .connect import Connect, Connector, Origin
from .exchange import CancelFlag, Cancelled, Exchange
from .pool import ConnectionPool
from .scripted import Reply, ScriptedConnector, ScriptedStream
from .stream import NetworkStream, SocketStream
from .tls import TlsStream
from .zero_copy import ZeroCopyTransport

__all__ = [
    "Body",
    "BufferBody",
    "CancelFlag",
    "Cancelled",
    "Connect",
    "ConnectionPool",
    "Connector",
    "Exchange",
    "FileBody",
    "FileRange",
    "NetworkStream",
    "Origin",
    "Piece",
    "Reply",
    "ScriptedConnector",
    "ScriptedStream",
    "ShortBody",
    "SocketStream",
    "TlsStream",
    "WithheldBody",
    "ZeroCopyTransport",
]
