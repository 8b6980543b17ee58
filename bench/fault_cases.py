"""Cases for uploads under faults: what is uploaded, how, and what goes wrong meanwhile. `draw` makes one of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import fastmpu
from fastmpu.mock.fault_menu import MENU, Parameter
from fastmpu.mock.faults import Fault

KiB = 1 << 10
# A second of production is some 20 ms here. Waits of the mock's faults are drawn around these.
SHORT = {"connect": 0.25, "write": 0.25, "response": 0.3, "response_per_gib": 0.0, "fence": 0.06}
QUICK = fastmpu.RetryPolicy(attempts=4, base=0.01, cap=0.05)

_STATUSES = (400, 401, 403, 404, 408, 409, 410, 412, 416, 429, 500, 501, 502, 503, 504, 507)
_TCODES = (None, "ErrBadCksum", "ErrNotFound", "ErrBckNotFound", "ErrFailedTo")
_OPS = ("part",) * 8 + ("complete",) * 4 + ("create", "create", "abort", "head", "probe", "redirect", "map", "any")
_PUT_OPS = ("put",) * 8 + ("head", "redirect", "map", "any")
# Other bytes than were sent, parts that are taken away, objects that end up elsewhere, and a "no" that is a lie.
_ONLY_LOOKING_TELLS = ("flip_bit", "drop_byte", "dup_chunk", "cleanup_now", "stale_owner", "move_owner", "when=after")
# After these an attempt lives on though its connection has ended. Who asks for fence="network" says: not on my network.
MIDDLEBOXES = frozenset({"half_dead", "gateway_502", "gateway_504"})
# Also these, if another fault ends the connection meanwhile: the handler stalls without noticing.
_STALLS = frozenset({"stall_at", "accept_no_read", "latency", "late_response", "lost_response"})
# About names and TLS, not about bytes, and what a repaired server does; tested elsewhere. What comes to the menu later
# comes to this list as well: a seed goes on to mean the same upload.
_NOT_DRAWN = {
    *("raw_name", "downgrade", "tls_bad_cert"),
    *(name for name, entry in MENU.items() if entry.group == "quirk"),
}


@dataclass(frozen=True)
class Case:
    """One upload. `faults` are in the mock's text form; `former` is what was there before."""

    seed: int = 0
    size: int = 5 * 64 * KiB + 12_345
    part_size: int = 64 * KiB
    multipart: bool = True
    source: str = "file"  # or "bytes"
    former: str = "none"  # or "whole", "parts"
    tls: bool = False
    token: bool = False  # the proxy asks for one
    signed: bool = False  # redirects are, as from AIStore v5.1 on
    batch: int = 1  # so many objects of this content, by one Uploader
    mixed: bool = False  # with engine="process": this process sends, too, as it does outside of the laboratory
    resumed: bool = False  # an earlier job of the same journal has come as far as part 3
    cancel_after: float | None = None
    faults: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        return -(-self.size // self.part_size) if self.multipart else 0

    def content(self) -> bytes:
        return random.Random(f"content {self.seed}").randbytes(self.size)

    def upload_options(self) -> dict[str, Any]:
        threshold = 1 if self.multipart else 2 * self.size + 1
        return {"part_size": self.part_size, "multipart_threshold": threshold, "retry": QUICK, **self.options}

    def __str__(self) -> str:
        how = " ".join(f"{key}={value}" for key, value in self.options.items())
        parts = f"{self.parts} parts of {self.part_size}" if self.multipart else "whole"
        extra = "".join(f" {name}" for name in ("tls", "token", "signed", "mixed", "resumed") if getattr(self, name))
        extra += f" x {self.batch}" if self.batch > 1 else ""
        extra += f" cancel after {self.cancel_after}" if self.cancel_after else ""
        return f"{self.source} {self.size} B, {parts}, former {self.former}, {how}{extra}; {'; '.join(self.faults)}"


def draw(seed: int) -> Case:
    """The same case for the same seed, whatever was drawn before."""
    dice = random.Random(f"case {seed}")
    size = dice.choice((0, 1, dice.randrange(2, 4096), *[dice.randrange(4096, 1 << 20) for _ in range(7)]))
    multipart = size > 1 and dice.random() < 0.85
    part_size = max(1, min(size, dice.choice((size, size // 2 + 1, size // 5 + 1, size // 11 + 1, 64 * KiB))))
    engine = dice.choice(("thread", "thread", "inline"))
    options: dict[str, Any] = {
        "engine": engine,
        "max_concurrency": dice.choice((1, 2, 3, 8, 16)),
        "verify": dice.choice(("head", "head", "head", "probe", "read")),
        "checksum": dice.choice(("auto", "auto", "auto", "xxhash")),
        "part_checksum": dice.choice(("none", "none", "none", "sha256")),
        "read": dice.choice(("auto", "mmap", "pread")),
    }
    source = dice.choice(("file", "file", "bytes"))
    if source == "bytes" or size == 0:
        options["read"] = "auto"
    if dice.random() < 0.04:
        options["deadline"] = dice.choice((0.05, 0.2, 0.6))
    count = dice.choice((1, 1, 1, 2, 2, 3))
    whole = not multipart or part_size >= size
    parts = 0 if whole else -(-size // part_size)
    former = dice.choice(("none", "none", "whole", "parts"))
    cancel_after = dice.uniform(0.0, 0.5) if dice.random() < 0.04 else None
    faults = tuple(str(draw_fault(dice, parts, part_size if parts else size)) for _ in range(count))
    if dice.random() < 0.3 and not any(word in text for text in faults for word in _ONLY_LOOKING_TELLS):
        # What remains must be safe by the rules of sending alone.
        options["verify"] = dice.choice(("none", "size"))
        options["checksum"] = dice.choice(("auto", "none"))
    case = Case(
        seed,
        size,
        part_size,
        not whole,
        source,
        former,
        cancel_after=cancel_after,
        faults=faults,
        options=options,
    )
    return _with_extras(case)


def _with_extras(case: Case) -> Case:
    """What was thought of later, drawn apart: a seed goes on to mean the same upload."""
    dice = random.Random(f"extras {case.seed}")
    tls, token, signed, network = (dice.random() < 0.1 for _ in range(4))
    if network and case.multipart and ends_tell(case.faults):
        case = replace(case, options={**case.options, "fence": "network"})
    processes, resumed = (dice.random() < share for share in (0.05, 0.1))
    if processes and case.multipart and case.source == "file":
        case = replace(case, options={**case.options, "engine": "process", "processes": 1})
    resumed = resumed and case.parts > 3 and case.source == "file"
    batch = dice.choice((2, 5)) if dice.random() < 0.1 and not resumed and case.cancel_after is None else 1
    mixed = dice.random() < 0.5
    return replace(case, tls=tls, token=token, signed=signed, mixed=mixed, resumed=resumed, batch=batch)


def ends_tell(faults: Iterable[str]) -> bool:
    """Whether the end of a connection means the end of its attempt under these faults, as fence="network" takes it."""
    kinds = [text.partition("(")[0] for text in faults]
    return not MIDDLEBOXES.intersection(kinds) and (len(kinds) == 1 or not _STALLS.intersection(kinds))


def draw_fault(dice: random.Random, parts: int, length: int) -> Fault:
    """One fault of the menu, each kind alike; its parameters around the client's timeouts."""
    kind = dice.choice([name for name in MENU if name not in _NOT_DRAWN])
    entry = MENU[kind]
    settings: dict[str, Any] = {"seed": dice.randrange(1000)}
    if entry.about == "connection":
        settings["where"] = dice.choice(("any", "proxy", "target"))
    elif entry.group == "redirect":
        settings["op"] = dice.choice(
            ("any", "create", "part", "complete", "abort", "head") if parts else ("any", "put")
        )
    else:
        settings["op"] = dice.choice(_OPS if parts else _PUT_OPS)
        if settings["op"] == "part" and dice.random() < 0.5:
            settings["part"] = dice.randint(1, parts)
    settings["nth"] = dice.choice((1, 1, 1, 2, 3, 5))
    if not entry.times_from:
        settings["times"] = dice.choice((1, 1, 1, 1, 2, 3, "always"))
        if dice.random() < 0.1:
            settings["probability"] = 0.3
    for parameter in entry.parameters:
        settings[parameter.name] = _draw_value(dice, kind, parameter, length)
    return Fault.of(kind, **settings)


def _draw_value(dice: random.Random, kind: str, parameter: Parameter, length: int) -> object:
    drawn: dict[str, Callable[[], object]] = {
        "ms": lambda: dice.choice((0, 20, 100, 200, 350, 500, 800, "forever")),
        "byte": lambda: dice.choice((0, 1, length // 2, dice.randrange(length + 1), -1, "end")),
        "count": lambda: dice.choice((1, 2, 3)),
        "times": lambda: dice.choice((1, 2, 3)),
        "rate": lambda: dice.choice((300e3, 1e6, 5e6)),
        "status": lambda: dice.choice(_STATUSES),
        "choice": lambda: dice.choice(parameter.choices),
        "flag": lambda: dice.choice((True, False)),
        "shift": lambda: dice.choice((-3.6e6, 3.6e6)),
        "text": lambda: parameter.default,
    }
    special: dict[tuple[str, str], Callable[[], object]] = {
        ("status", "tcode"): lambda: dice.choice(_TCODES),
        ("status", "retry_after"): lambda: dice.choice((None, None, "0", "1", "soon")),
        ("early_status", "tcode"): lambda: dice.choice(_TCODES),
        ("301_on_put", "code"): lambda: dice.choice((301, 302, 303)),
        ("huge_headers", "size"): lambda: dice.choice((1 << 12, 1 << 16, 1 << 20)),
        ("dup_chunk", "size"): lambda: dice.choice((1, 64, 4096)),
        ("flip_bit", "bit"): lambda: dice.randrange(8),
        ("latency", "jitter"): lambda: dice.choice((0, 100)),
    }
    return special.get((kind, parameter.name), drawn[parameter.type])()
