"""HTTP/1.1 over sockets with bodies that are never copied in user space; nothing of AIStore is in it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .body import Body, BufferBody, FileBody, FileRange, Piece, ShortBody, WithheldBody
from .connect import Connect, Connector, Origin
from .exchange import CancelFlag, Cancelled, Exchange, Limits, Phase
from .head import AnswerHead
from .pool import ConnectionPool
from .stream import NetworkStream, SocketStream
from .waiting import pause, unhindered, wait_by, waiter
from .wire import Answer, Broken, Wire, WireRequest

if TYPE_CHECKING:
    from .scripted import Reply, ScriptedConnector, ScriptedStream
    from .tls import TlsStream
    from .zero_copy import BodyStream, ZeroCopyTransport, as_httpx, as_response, origin_of

__all__ = [
    "Answer",
    "AnswerHead",
    "Body",
    "BodyStream",
    "Broken",
    "BufferBody",
    "CancelFlag",
    "Cancelled",
    "Connect",
    "ConnectionPool",
    "Connector",
    "Exchange",
    "FileBody",
    "FileRange",
    "Limits",
    "NetworkStream",
    "Origin",
    "Phase",
    "Piece",
    "Reply",
    "ScriptedConnector",
    "ScriptedStream",
    "ShortBody",
    "SocketStream",
    "TlsStream",
    "Wire",
    "WireRequest",
    "WithheldBody",
    "ZeroCopyTransport",
    "as_httpx",
    "as_response",
    "origin_of",
    "pause",
    "unhindered",
    "wait_by",
    "waiter",
]

# Name -> the module that has it, imported when first asked for: httpx is most of what starting a worker process would
# cost, and it needs none of it.
_LATER = {
    "BodyStream": "zero_copy",
    "Reply": "scripted",
    "ScriptedConnector": "scripted",
    "ScriptedStream": "scripted",
    "TlsStream": "tls",
    "ZeroCopyTransport": "zero_copy",
    "as_httpx": "zero_copy",
    "as_response": "zero_copy",
    "origin_of": "zero_copy",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
