"""The menu: every fault by name, its parameters and what it does. Data alone; `fault_effects` holds the deeds.

A fault is about a connection (before any request), a request, or a node. Those about a node happen at once when they
are added without a match, and otherwise when a matching request's head has come.
"""

from __future__ import annotations

import http
import math
from dataclasses import dataclass
from typing import Literal

from fastmpu.mock.certificates import KINDS as CERTIFICATES

__all__ = ["MENU", "FaultError", "Kind", "Parameter", "Value"]

Value = int | float | str | bool | None
"""None is "forever" as a time, "end" as a place, and "none" elsewhere."""

_NOTHING = {"ms": "forever", "byte": "end"}
_STATUSES = {int(status) for status in http.HTTPStatus if status >= 200}


class FaultError(ValueError):
    """A fault that is not on the menu, or is asked for in a way that it does not know."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a fault: `ms` is milliseconds, `byte` a place in the body (negative: from its end)."""

    name: str
    type: Literal["ms", "byte", "count", "times", "rate", "status", "choice", "flag", "text", "shift"]
    default: Value
    text: str
    choices: tuple[str, ...] = ()

    def read(self, value: object) -> Value:
        """The value, given as text or as itself. FaultError if it will not do."""
        try:
            return self._read(value)
        except (TypeError, ValueError) as error:
            raise FaultError(f"{self.name} is {self.meaning}, not {value!r}") from error

    def show(self, value: Value) -> str:
        """The value as the text form has it."""
        if value is None:
            return _NOTHING.get(self.type, "none")
        return str(value).lower() if isinstance(value, bool) else str(value)

    @property
    def meaning(self) -> str:
        return {
            "ms": "milliseconds, 0 or more, or forever",
            "byte": "a byte's place in the body, negative from its end, or end",
            "count": "a number, 0 or more",
            "times": "a number, 1 or more",
            "rate": "bytes a second, more than 0",
            "status": "an HTTP status from 200 on",
            "choice": f"one of {', '.join(self.choices)}",
            "flag": "true or false",
            "shift": "milliseconds, negative for the past",
            "text": "text",
        }[self.type]

    def _read(self, value: object) -> Value:
        if value is None or value == _NOTHING.get(self.type, "none"):
            if self.type in _NOTHING or self.default is None:
                return None
            raise ValueError
        if isinstance(value, bool) != (self.type == "flag") and not (self.type == "flag" and isinstance(value, str)):
            raise ValueError
        if self.type == "flag":
            return {"true": True, "false": False}[str(value).lower()] if str(value).lower() in _FLAGS else _no()
        if self.type == "choice":
            return str(value) if str(value) in self.choices else _no()
        if self.type == "text":
            return str(value)
        if self.type in ("ms", "rate"):
            number = float(str(value))
            return number if 0 < number < math.inf or (number == 0 and self.type == "ms") else _no()
        if self.type == "shift":
            shift = float(str(value))
            return shift if abs(shift) < _SHIFT_LIMIT else _no()
        whole = int(str(value))
        low = {"count": 0, "times": 1}.get(self.type, whole)
        if whole < low or (self.type == "status" and whole not in _STATUSES):
            raise ValueError
        return whole


_SHIFT_LIMIT = 1e12  # milliseconds, some thirty years
_FLAGS = ("true", "false")


def _no() -> Value:
    raise ValueError


@dataclass(frozen=True)
class Kind:
    """One line of the menu. `times` is how often it happens if nobody says; None is always."""

    name: str
    group: str
    text: str
    parameters: tuple[Parameter, ...] = ()
    about: Literal["connection", "request", "node"] = "request"
    where: str = ""  # if nobody says; "" leaves it to the op
    times: int | None = 1
    times_from: str = ""  # the parameter that says how often

    def parameter(self, name: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


def _ms(default: float | None, text: str = "how long") -> Parameter:
    return Parameter("ms", "ms", default, text)


def _byte(default: int | None, text: str = "where in the request's body") -> Parameter:
    return Parameter("byte", "byte", default, text)


def _choice(name: str, *choices: str, text: str) -> Parameter:
    return Parameter(name, "choice", choices[0], text, choices)


def _n(default: int, text: str) -> Parameter:
    return Parameter("n", "times", default, text)


_ON = Parameter("on", "flag", True, "whether the server has it")
_WHEN = _choice("when", "before", "after", text="before the request is handled, or after, with no answer out yet")
_TARGET = Parameter("target", "text", None, "which one, as in where; none: the request's own")
_MESSAGE = Parameter("message", "text", None, "the message in the JSON")

BAD_HEADERS = (
    "both_lengths",
    "two_lengths",
    "negative_length",
    "huge_length",
    "text_length",
    "space_before_colon",
    "folding",
    "bare_lf",
    "no_colon",
    "nul",
    "bad_version",
    "bad_status",
)

_KINDS = [
    # -- connect
    Kind("refuse", "connect", "the port refuses connections", (_ms(None),), "node"),
    Kind("syn_drop", "connect", "a connection is not even answered: SYNs are dropped", (_ms(1000.0),), "node"),
    Kind("accept_no_read", "connect", "accepted, and nothing is read for a while", (_ms(None),), "connection"),
    Kind("reset_on_accept", "connect", "accepted and reset", (), "connection"),
    Kind(
        "tls_bad_cert",
        "connect",
        "a certificate that no client should take",
        (_choice("kind", *CERTIFICATES[1:], text="what is wrong with it"),),
        "connection",
    ),
    Kind(
        "tls_close_mid_handshake",
        "connect",
        "closed after the client's first bytes, which TLS calls hello",
        (),
        "connection",
    ),
    # -- request side
    Kind("reset_at", "request", "reset when so many bytes of the body are there", (_byte(0),)),
    Kind("fin_at", "request", "closed when so many bytes are there", (_byte(0),)),
    Kind("stall_at", "request", "no more is read from there on; the handler waits on", (_byte(0), _ms(None))),
    Kind(
        "trickle",
        "request",
        "the body is read slowly",
        (Parameter("bytes_per_s", "rate", 100.0, "bytes a second"),),
        times=None,
    ),
    Kind("window_zero", "request", "nothing is read, through a receive buffer of a few KiB", (_byte(0), _ms(1000.0))),
    Kind(
        "bandwidth",
        "request",
        "body and answer pass at so many bytes a second",
        (Parameter("bps", "rate", 1e6, "bytes a second, each way"),),
        times=None,
    ),
    Kind(
        "latency",
        "request",
        "so much later before it is handled",
        (_ms(100.0), Parameter("jitter", "ms", 0.0, "and up to so much more, drawn")),
        times=None,
    ),
    Kind(
        "early_status",
        "request",
        "an answer while the body is still coming, then the end",
        (
            Parameter("code", "status", 507, "the status"),
            _byte(0),
            _choice("how", "close", "rst", text="how the connection ends"),
            Parameter("tcode", "text", None, "the type of error in the JSON"),
        ),
    ),
    Kind(
        "flip_bit",
        "request",
        "one bit of the body arrives changed",
        (_byte(0), Parameter("bit", "count", 0, "0 to 7")),
    ),
    Kind("drop_byte", "request", "one byte is lost, the rest moves up, a zero fills the end", (_byte(0),)),
    Kind(
        "dup_chunk",
        "request",
        "a stretch arrives twice, and pushes the body's end out",
        (_byte(0), Parameter("size", "count", 64, "bytes of the stretch")),
    ),
    # -- response side
    Kind(
        "lost_response",
        "response",
        "processed, and no answer comes",
        (_choice("how", "reset", "fin", "silence", text="what comes instead"), _ms(None, "how long silence lasts")),
    ),
    Kind("late_response", "response", "processed, and answered later", (_ms(1000.0),)),
    Kind(
        "status",
        "response",
        "an error in AIStore's JSON",
        (
            Parameter("code", "status", 500, "the status"),
            Parameter("tcode", "text", None, "the type of error"),
            Parameter("retry_after", "text", None, "the header's value"),
            _WHEN,
            _MESSAGE,
        ),
    ),
    Kind(
        "200_with_error_body",
        "response",
        "200, and AIStore's error JSON",
        (Parameter("processed", "flag", False, "whether the request was done nevertheless"),),
    ),
    Kind(
        "truncated_body",
        "response",
        "the answer's body ends before its announced length",
        (
            _byte(None, "where it ends; end: at half; an empty body is announced with 10 bytes"),
            _choice("how", "fin", "reset", text="how it ends"),
        ),
    ),
    Kind(
        "bad_headers",
        "response",
        "a head that no client should take",
        (_choice("kind", *BAD_HEADERS, text="what is wrong with it"),),
    ),
    Kind("extra_bytes", "response", "bytes after the answer's end", (_n(16, "how many"),)),
    Kind("gzip_body", "response", "the body is compressed, though nobody asked"),
    Kind("huge_headers", "response", "headers of this size", (Parameter("size", "count", 1 << 20, "bytes"),)),
    Kind(
        "1xx",
        "response",
        "interim answers before the answer",
        (_n(1, "how many"), _choice("code", "103", "102", "100", text="the status")),
    ),
    Kind("close_idle", "response", "the connection is closed after so much idle time", (_ms(50.0),)),
    Kind(
        "close_without_notice",
        "response",
        "closed behind an answer that did not say so",
        (_choice("how", "fin", "reset", text="how"),),
    ),
    # -- redirects
    Kind("loop", "redirect", "back to the proxy, again and again", where="proxy", times=None),
    Kind("chain", "redirect", "so many hops more", (_n(3, "hops"),), where="proxy", times_from="n"),
    Kind(
        "to_stranger",
        "redirect",
        "to a host that is no member",
        (Parameter("url", "text", "http://stranger.invalid", "scheme and authority"),),
        where="proxy",
    ),
    Kind("downgrade", "redirect", "to http", where="proxy"),
    Kind("stale_owner", "redirect", "to a target that does not own the name", where="proxy"),
    Kind("raw_name", "redirect", "the name stands unescaped in Location, whatever is in it", where="proxy"),
    Kind("no_location", "redirect", "without Location", where="proxy"),
    Kind(
        "301_on_put",
        "redirect",
        "with a status that makes naive clients GET",
        (Parameter("code", "status", 301, "301, 302 or 303"),),
        where="proxy",
    ),
    Kind("expired_signature", "redirect", "the target refuses the redirect's markers with 401", where="target"),
    # -- cluster
    Kind(
        "restart_target",
        "cluster",
        "connections and unfinished uploads are lost",
        (Parameter("keep_state", "flag", False, "uploads are kept"), _TARGET, _WHEN),
        "node",
    ),
    Kind("kill_target", "cluster", "the target is gone, the map does not know", (_ms(None), _TARGET, _WHEN), "node"),
    Kind(
        "move_owner",
        "cluster",
        "the owner leaves: names and objects move, uploads do not",
        (_ms(None, "when it comes back"), _TARGET, _WHEN),
        "node",
    ),
    Kind("proxy_down", "cluster", "the proxy is gone for a while", (_ms(1000.0), _WHEN), "node"),
    Kind(
        "election", "cluster", "503 without a body, from the first match on", (_ms(1000.0),), where="proxy", times=None
    ),
    Kind("429_burst", "cluster", "429 so many times", (_n(10, "how many"),), where="proxy", times_from="n"),
    Kind("oos_507", "cluster", "out of space", where="target", times=None),
    Kind("cleanup_now", "cluster", "the files of parts of all unfinished uploads are removed", (_WHEN,), "node"),
    Kind(
        "clock_skew",
        "cluster",
        "the Date of answers is off",
        (Parameter("ms", "shift", 3_600_000.0, "how far; negative: behind"),),
        times=None,
    ),
    # -- quirks
    *(
        Kind(name, "quirk", text, (_ON, _ms(None)), "node")
        for name, text in {
            "dup_part_unlinks": "a part that is sent again is unlinked",
            "late_attempt_unlinks": "an attempt that ends late unlinks the part, whoever sent it",
            "failed_complete_drops_previous": "a complete that fails takes a former object made of parts along",
            "stale_put_misplaces": "a target takes objects that it does not own",
            "newline_location": "names stand in Location unescaped, line breaks as spaces",
            "500_for_part_number": "500, not 400, for part numbers out of range",
            "inorder_checksum": "the bucket's checksum type if parts came in order, else CRC-32C",
        }.items()
    ),
    # -- middlebox
    Kind(
        "half_dead",
        "middlebox",
        "something between ends one half of the connection; the other half lives on",
        (
            _byte(None),
            _choice("who", "client", "target", text="whose half ends"),
            _choice("how", "rst", "fin", text="how the client's half ends"),
            _ms(1000.0, "how long the other half lives on"),
        ),
    ),
    Kind(
        "gateway_502",
        "middlebox",
        "a gateway's own 502; the handler lives on",
        (_byte(None), _ms(1000.0, "how long the handler lives on")),
    ),
    Kind(
        "gateway_504",
        "middlebox",
        "a gateway's own 504; the handler lives on",
        (_byte(None), _ms(1000.0, "how long the handler lives on")),
    ),
]
MENU = {kind.name: kind for kind in _KINDS}
