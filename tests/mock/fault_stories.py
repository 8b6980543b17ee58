"""Stories of faults that hit connections and requests, and how to tell more of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

import crc32c
import pytest
from talk import Call, Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.truth import Record

BODY = bytes(range(256)) * 8
SECONDS = 5.0
STORIES: dict[str, Callable[[Talk], None]] = {}


def story(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    """Named for the fault that it tells of; a fault whose name is no identifier has an `f_` before it."""
    STORIES[function.__name__.removeprefix("f_")] = function
    return function


def put_by_hand(talk: Talk, name: str = "x", size: int = len(BODY)) -> Call:
    """A connection to the owner on which the head of a PUT has gone out."""
    to, marker = talk.owner(name)
    call = Call(to)
    call.head("PUT", talk.path(name, marker), size)
    return call


def only(talk: Talk, **wanted: object) -> Record:
    """The one record of that kind, when it has ended."""
    assert talk.cluster.truth.wait_until_quiet(SECONDS)
    (record,) = talk.cluster.truth.attempts(**wanted)
    return record


def ends(call: Call) -> str:
    """How the peer ends the connection: "reset" or "fin"."""
    try:
        while call.socket.recv(1 << 16):
            pass
    except ConnectionResetError:
        return "reset"
    return "fin"


def alive(talk: Talk, **wanted: object) -> bool:
    return any(record.alive for record in talk.cluster.truth.attempts(**wanted))


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# -- connect


@story
def refuse(talk: Talk) -> None:
    with Call(talk.cluster.endpoint) as before:
        assert before.ask("GET", "/v1/health").status == 200
        with talk.cluster.faults.add("refuse", where="proxy"):
            with pytest.raises(ConnectionRefusedError):
                Call(talk.cluster.endpoint)
            assert before.ask("GET", "/v1/health").status == 200, "an open connection goes on"
    assert ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200, "removed, and on the same port"


@story
def syn_drop(talk: Talk) -> None:
    talk.cluster.faults.add("syn_drop", where="proxy", ms=200)
    begun = time.monotonic()
    assert ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200
    assert time.monotonic() - begun > 0.2, "the SYN had to be sent again"


@story
def accept_no_read(talk: Talk) -> None:
    with talk.cluster.faults.add("accept_no_read", where="proxy"), Call(talk.cluster.endpoint) as call:
        call.head("GET", "/v1/health", None)
        call.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            call.reply()
    assert ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200


@story
def reset_on_accept(talk: Talk) -> None:
    talk.cluster.faults.add("reset_on_accept", where="proxy")
    try:
        with Call(talk.cluster.endpoint) as call:
            assert ends(call) == "reset"
    except ConnectionResetError:
        pass  # as early as that
    assert ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200


@story
def tls_close_mid_handshake(talk: Talk) -> None:
    with Cluster(targets=1, tls="self-made") as cluster:
        cluster.faults.add("tls_close_mid_handshake", where="proxy")
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        with pytest.raises(OSError, match=r"EOF|[Rr]eset"):
            Call(cluster.endpoint, context)
        assert ask(cluster.endpoint, "GET", "/v1/health", context=context).status == 200
    talk.cluster.faults.add("tls_close_mid_handshake", where="proxy")
    with Call(talk.cluster.endpoint) as call:
        call.head("GET", "/v1/health", None)
        with pytest.raises(ConnectionError):
            call.reply()


# -- request side


@story
def reset_at(talk: Talk) -> None:
    talk.cluster.faults.add("reset_at", op="put", byte=1000)
    with put_by_hand(talk) as call:
        call.send(BODY[:1000])
        assert ends(call) == "reset"
    record = only(talk, op="put")
    assert (record.received, record.outcome, record.answer) == (1000, "broken", "lost")
    assert record.crc32c is not None
    assert int(record.crc32c, 16) == crc32c.crc32c(BODY[:1000])


@story
def fin_at(talk: Talk) -> None:
    talk.cluster.faults.add("fin_at", op="put", byte=1000)
    with put_by_hand(talk) as call:
        call.send(BODY[:1000])
        assert ends(call) == "fin"
    assert only(talk, op="put").outcome == "broken"


@story
def stall_at(talk: Talk) -> None:
    """The zombie: its client has gone long ago."""
    upload = talk.upload("x")
    with talk.cluster.faults.add("stall_at", op="part", part=2, byte=1000):
        to, marker = talk.owner("x")
        with Call(to) as call:
            call.head("PUT", talk.path("x", f"&uploadId={upload.id}&partNumber=2{marker}"), len(BODY))
            call.send(BODY)
            assert soon(lambda: alive(talk, part=2))
        time.sleep(0.05)
        assert alive(talk, part=2)
        assert upload.part(2, BODY).status == 200
        assert upload.part(1, BODY).status == 200
        assert upload.complete([1, 2]).status == 200
        assert talk.get("x").body == BODY + BODY
    assert talk.cluster.truth.wait_until_quiet(SECONDS)
    assert talk.head("x").status == 200
    assert not talk.get("x").whole
    zombie, second = talk.cluster.truth.attempts(part=2)
    assert (zombie.outcome, second.outcome) == ("unlinked-late", "stored")
    assert len(talk.cluster.truth.violations()) == 3  # sent again, completed, destroyed


@story
def trickle(talk: Talk) -> None:
    talk.cluster.faults.add("trickle", op="put", bytes_per_s=len(BODY) * 8)
    begun = time.monotonic()
    assert talk.put("x", BODY).status == 200
    assert time.monotonic() - begun > 0.08
    assert talk.get("x").body == BODY


@story
def window_zero(talk: Talk) -> None:
    """A sender comes to a halt after what the two kernels take."""
    size = 8 << 20
    with talk.cluster.faults.add("window_zero", op="put", ms="forever"), put_by_hand(talk, size=size) as call:
        call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        call.socket.settimeout(0.1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += call.socket.send(bytes(1 << 16))
        assert sent < 1 << 20
    assert only(talk, op="put").outcome == "broken"


@story
def bandwidth(talk: Talk) -> None:
    assert talk.put("x", BODY).status == 200
    talk.cluster.faults.add("bandwidth", op="get", bps=len(BODY) * 8)
    begun = time.monotonic()
    assert talk.get("x").body == BODY
    assert time.monotonic() - begun > 0.08


@story
def latency(talk: Talk) -> None:
    talk.cluster.faults.add("latency", op="head", ms=60, jitter=20)
    begun = time.monotonic()
    assert talk.head("x").status == 404
    assert time.monotonic() - begun > 0.06


@story
def early_status(talk: Talk) -> None:
    size = 1 << 20
    talk.cluster.faults.add("early_status", op="put", code=507, byte=1000, tcode="ErrCapExceeded")
    with put_by_hand(talk, size=size) as call:
        call.send(bytes(1000))
        reply = call.reply()
        assert (reply.status, reply.error["tcode"]) == (507, "ErrCapExceeded")
        assert reply.headers["connection"] == "close"
        assert ends(call) == "fin"
    record = only(talk, op="put")
    assert (record.outcome, record.status, record.received) == ("refused", 507, 1000)
    talk.cluster.faults.add("early_status", op="put", code=400, byte=1000, how="rst")
    with put_by_hand(talk, size=size) as call:
        call.send(bytes(1000))
        assert ends(call) == "reset"


def changed_by(talk: Talk, fault: str) -> bytes:
    """What a part becomes under a fault, with a checksum by which nobody could have told."""
    with talk.cluster.faults.add(fault):
        upload = talk.upload("x")
        assert upload.part(1, BODY).status == 200
        assert upload.complete([1]).status == 200
    stored = talk.get("x").body
    assert only(talk, op="part").crc32c == f"{crc32c.crc32c(stored):08x}", "hashed after it was changed"
    assert len(stored) == len(BODY)
    return stored


@story
def flip_bit(talk: Talk) -> None:
    stored = changed_by(talk, "flip_bit(1000, bit=3, op=part)")
    assert stored == BODY[:1000] + bytes([BODY[1000] ^ 8]) + BODY[1001:]


@story
def drop_byte(talk: Talk) -> None:
    assert changed_by(talk, "drop_byte(1000, op=part)") == BODY[:1000] + BODY[1001:] + b"\0"


@story
def dup_chunk(talk: Talk) -> None:
    stored = changed_by(talk, "dup_chunk(1000, size=100, op=part)")
    assert stored == (BODY[:1100] + BODY[1000:])[: len(BODY)]
