"""Faults as data: what shall go wrong, where, for which requests, how often. `fault_menu` lists them.

    with cluster.faults.add("lost_response", op="part", part=3): ...
    cluster.faults.add("lost_response(op=part, part=3, times=1)")      # the same as text

A fault *matches* requests by node (`where`), operation (`op`), part and name; it *happens* from the `nth` match on,
`times` times, each with `probability`. Draws depend on the seed and on the request (operation, name, part, how often it
came), not on the order in which threads got here: one seed, one story.

Threads: any. One lock guards the list, the counters and the log; who removes a fault wakes those that it keeps waiting.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from fastmpu.mock.fault_menu import MENU, FaultError, Kind, Value
from fastmpu.mock.operations import OBJECT_OPS, OPS, Operation

__all__ = ["Fault", "FaultError", "Faults", "Fired", "Handle", "Shot", "Site", "parse_fault", "parse_faults"]

ALWAYS = "always"
_MATCH_KEYS = ("where", "op", "part", "name", "nth", "probability", "times", "seed")
_PROXY_OPS = ("redirect", "map", "list", "bucket")
_ALIASES = {"start": "create"}
_TEXT = re.compile(r"\s*([0-9A-Za-z_]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:([A-Za-z_]+)\s*=\s*)?("(?:[^"\\]|\\.)*"|'[^']*'|[^,'"=]+?)\s*(?:,|$)""")
_WHERE = re.compile(r"target:?(\d+)?")
_PLAIN = re.compile(r"[^,'\"=()#\s]+")
_LOG_LENGTH = 10_000


class Site(NamedTuple):
    """A node, as faults find it."""

    type: str  # "proxy" or "target"
    number: int  # of the targets, from 0; 0 for the proxy
    id: str


@dataclass(frozen=True)
class Fault:
    """One fault, checked. `Fault.of` makes it. `times` None is always."""

    kind: str
    where: str = "any"
    op: str = "any"
    part: int | None = None
    name: str | None = None
    nth: int = 1
    probability: float | None = None
    times: int | None = 1
    seed: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)

    @property
    def immediate(self) -> bool:
        """About a node, and nothing is said about requests."""
        matches_all = (self.op, self.part, self.name, self.nth, self.probability) == ("any", None, None, 1, None)
        return matches_all and MENU[self.kind].about == "node"

    @classmethod
    def of(cls, kind: str, /, **settings: object) -> Fault:
        """FaultError, with what is valid, for what is not on the menu."""
        entry = MENU.get(kind)
        if entry is None:
            raise FaultError(f"no fault is called {kind!r}; there are {', '.join(MENU)}")
        valid = [*(parameter.name for parameter in entry.parameters), *_keys_of(entry)]
        for key in settings:
            if key not in valid:
                raise FaultError(f"{kind} does not know {key!r}; it takes {', '.join(valid)}")
        parameters = {
            parameter.name: parameter.read(settings[parameter.name])
            if parameter.name in settings
            else parameter.default
            for parameter in entry.parameters
        }
        op = _op(settings.get("op", "any"))
        probability = _probability(settings.get("probability"))
        times = entry.times if probability is None else None
        if entry.times_from:
            times = int(str(parameters[entry.times_from]))
        if "times" in settings:
            times = None if settings["times"] in (None, ALWAYS) else _whole(settings, "times", 1)
        return cls(
            kind,
            _where(settings["where"]) if "where" in settings else _usual_place(entry, op),
            op,
            _whole(settings, "part", 0),
            None if settings.get("name") is None else str(settings["name"]),
            _whole(settings, "nth", 1) or 1,
            probability,
            times,
            _whole(settings, "seed") or 0,
            parameters,
        )

    def matches(self, site: Site, operation: Operation) -> bool:
        if not self.is_at(site) or (self.part is not None and operation.part != self.part):
            return False
        if self.name is not None and not fnmatchcase(operation.name, self.name):
            return False
        if self.op == "redirect" or MENU[self.kind].group == "redirect":
            if operation.op not in OBJECT_OPS or (self.op == "redirect" and site.type != "proxy"):
                return False
            return self.op in ("any", "redirect", operation.op)
        return self.op in ("any", operation.op)

    def is_at(self, site: Site) -> bool:
        return self.where in ("any", site.type, f"target:{site.number}" if site.type == "target" else "", site.id)

    def as_json(self) -> dict[str, Value]:
        """A flat object, which `Fault.from_json` reads again."""
        said = {key: getattr(self, key) for key in _keys_of(MENU[self.kind])}
        said["times"] = ALWAYS if self.times is None else self.times
        shown = {key: value for key, value in said.items() if value is not None and (key, value) != ("op", "any")}
        if self.nth == 1:
            shown.pop("nth", None)
        return {"fault": self.kind, **shown, **self.parameters}

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """A fault from its name under "fault", and settings and parameters beside it."""
        if not isinstance(value, Mapping) or not isinstance(value.get("fault"), str):
            raise FaultError('a fault in JSON is an object with its name under "fault"')
        return cls.of(value["fault"], **{str(key): item for key, item in value.items() if key != "fault"})

    def __str__(self) -> str:
        """The text form, which `parse_fault` reads again."""
        entry = MENU[self.kind]
        items = []
        for key, value in self.as_json().items():
            if key != "fault":
                parameter = entry.parameter(key)
                items.append(f"{key}={_quoted(parameter.show(value) if parameter else str(value))}")
        return f"{self.kind}({', '.join(items)})"


def parse_fault(text: str) -> Fault:
    """A fault from `name` or `name(key=value, ...)`; values without a key are the fault's parameters in order."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise FaultError(f"a fault is written name(key=value, ...), not {text.strip()!r}")
    kind, inside = found[1], found[2] or ""
    settings: dict[str, object] = {}
    free = [parameter.name for parameter in MENU[kind].parameters] if kind in MENU else []
    at = 0
    while inside[at:].strip():
        item = _ITEM.match(inside, at)
        if item is None:
            raise FaultError(f"a fault is written name(key=value, ...), not {text.strip()!r}")
        at = item.end()
        key = item[1] or next((name for name in free if name not in settings), "")
        if not key and kind in MENU:
            raise FaultError(f"{kind} takes no more than {len(free)} values without a name: {text.strip()!r}")
        if key in settings:
            raise FaultError(f"{key} is given twice: {text.strip()!r}")
        settings[key] = _unquoted(item[2])
    return Fault.of(kind, **settings)


def parse_faults(text: str) -> list[Fault]:
    """One fault a line; `#` begins a comment, empty lines are skipped. The error names the line."""
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        try:
            if line:
                faults.append(parse_fault(line))
        except FaultError as error:
            raise FaultError(f"line {number}: {error}") from error
    return faults


class Fired(NamedTuple):
    """One line of the log: the n-th time that a fault happened, and to what."""

    fault: int
    kind: str
    n: int
    node: str
    op: str
    name: str
    part: int | None
    at: float  # monotonic seconds


class Handle:
    """A fault in force. Leaving it as a context manager removes it, and ends the waits that it keeps up."""

    def __init__(self, faults: Faults, id_: int, fault: Fault) -> None:
        self.id = id_
        self.fault = fault
        self.matched = 0
        self.fired = 0
        self.first_fired: float | None = None
        self.removed = False
        self._faults = faults
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._waits: set[threading.Event] = set()

    def __repr__(self) -> str:
        return f"<Fault {self.id} {self.fault} matched {self.matched} fired {self.fired}>"

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """What it does to nodes is undone where that makes sense (a closed port opens again). Twice does no harm."""
        self._faults.remove(self.id)

    def as_json(self) -> dict[str, object]:
        return {"id": self.id, **self.fault.as_json(), "matched": self.matched, "fired": self.fired}

    def wait(self, event: threading.Event, seconds: float | None) -> None:
        """Wait for the event, which removing the fault sets as well."""
        self._waits.add(event)
        try:
            if not self.removed:
                event.wait(seconds)
        finally:
            self._waits.discard(event)

    def _draw(self, site: Site, operation: Operation) -> random.Random | None:
        """A generator for this event if it happens. Under the lock."""
        fault = self.fault
        self.matched += 1
        if self.matched < fault.nth or (fault.times is not None and self.fired >= fault.times):
            return None
        who = (site.type, operation.op, operation.bucket, operation.name, operation.part)
        self._seen[who] += 1
        generator = random.Random(f"{fault.seed} {fault.kind} {who} {self._seen[who]}")
        if fault.probability is not None and generator.random() >= fault.probability:
            return None
        self.fired += 1
        self.first_fired = self.first_fired or time.monotonic()
        return generator


class Shot(NamedTuple):
    """A fault that happens now."""

    handle: Handle
    generator: random.Random

    @property
    def kind(self) -> str:
        return self.handle.fault.kind

    def value(self, name: str) -> Value:
        return self.handle.fault.parameters[name]

    def number(self, name: str) -> int:
        return int(str(self.value(name)))

    def seconds(self, name: str = "ms") -> float | None:
        """A time in seconds; None is forever."""
        value = self.value(name)
        return None if value is None else float(value) / 1000


class Faults:
    """The faults in force in one cluster: empty, unless somebody wants trouble."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[int, Handle] = {}
        self._last_id = 0
        self._log: deque[Fired] = deque(maxlen=_LOG_LENGTH)
        self.at_once: Callable[[Handle], None] = lambda handle: None  # what the cluster does about immediate ones
        self.undo: Callable[[Handle], None] = lambda handle: None
        self.changed: Callable[[], None] = lambda: None  # faults have come or gone
        self.check: Callable[[Fault], None] = lambda fault: None  # FaultError for nodes that there are not

    def __iter__(self) -> Iterator[Handle]:
        with self._lock:
            return iter(list(self._handles.values()))

    def __len__(self) -> int:
        return len(self._handles)

    def add(self, fault: Fault | str, /, **settings: object) -> Handle:
        """Put a fault in force: by its name and settings, as text, or ready-made."""
        if isinstance(fault, str):
            fault = parse_fault(fault) if "(" in fault and not settings else Fault.of(fault, **settings)
        elif settings:
            raise TypeError("settings go with a fault's name")
        self.check(fault)
        with self._lock:
            self._last_id += 1
            handle = self._handles[self._last_id] = Handle(self, self._last_id, fault)
        self.changed()
        if fault.immediate:
            self.at_once(handle)
        return handle

    def remove(self, id_: int) -> bool:
        """End a fault, by its handle's id; False if there is none."""
        with self._lock:
            handle = self._handles.pop(id_, None)
        if handle is None:
            return False
        handle.removed = True
        self.changed()
        for event in list(handle._waits):
            event.set()
        self.undo(handle)
        return True

    def clear(self) -> None:
        for handle in self:
            handle.remove()

    @property
    def log(self) -> list[Fired]:
        """What has happened, the latest last."""
        with self._lock:
            return list(self._log)

    def log_json_lines(self) -> str:
        return "".join(json.dumps(fired._asdict()) + "\n" for fired in self.log)

    def at_request(self, site: Site, operation: Operation) -> list[Shot]:
        """What happens to a request, in the order in which the faults were added."""
        if not self._handles:
            return []
        return self._shots(site, operation, about=("request", "node"))

    def at_connection(self, site: Site) -> list[Shot]:
        """What happens to a connection before its first request."""
        if not self._handles:
            return []
        return self._shots(site, Operation("connect"), about=("connection",))

    def tells_probes(self) -> bool:
        """Whether a complete has to be told from a probe before its body is handled."""
        return any(handle.fault.op in ("complete", "probe") for handle in self)

    def record(self, handle: Handle, site: Site) -> None:
        """An immediate fault has happened."""
        with self._lock:
            handle.matched, handle.fired = handle.matched + 1, handle.fired + 1
            self._write(handle, site, Operation("none"))

    def _shots(self, site: Site, operation: Operation, about: tuple[str, ...]) -> list[Shot]:
        shots = []
        with self._lock:
            for handle in self._handles.values():
                fault = handle.fault
                if MENU[fault.kind].about not in about or fault.immediate:
                    continue
                if not (fault.is_at(site) if operation.op == "connect" else fault.matches(site, operation)):
                    continue
                generator = handle._draw(site, operation)
                if generator is not None:
                    shots.append(Shot(handle, generator))
                    self._write(handle, site, operation)
        return shots

    def _write(self, handle: Handle, site: Site, operation: Operation) -> None:
        node = site.type if site.type == "proxy" else f"target:{site.number}"
        now = time.monotonic()
        self._log.append(
            Fired(handle.id, handle.fault.kind, handle.fired, node, operation.op, operation.name, operation.part, now)
        )


def _keys_of(entry: Kind) -> list[str]:
    """The settings that a fault takes beside its parameters."""
    left_out = ("op", "part", "name") if entry.about == "connection" else ()
    return [key for key in _MATCH_KEYS if key not in left_out and entry.parameter(key) is None]


def _usual_place(entry: Kind, op: str) -> str:
    """Where a fault happens if nobody says: where the op is really dealt with."""
    if entry.where:
        return entry.where
    if op in _PROXY_OPS:
        return "proxy"
    return "target" if op in OBJECT_OPS else "any"


def _op(value: object) -> str:
    op = _ALIASES.get(str(value), str(value))
    if op not in (*OPS, "any"):
        raise FaultError(f"op is one of {', '.join((*OPS, *_ALIASES, 'any'))}, not {value!r}")
    return op


def _where(value: object) -> str:
    text = str(value)
    if text in ("wire", "any"):
        return "any"
    if found := _WHERE.fullmatch(text):
        return f"target:{found[1]}" if found[1] else "target"
    if text != "proxy" and not re.fullmatch(r"[0-9A-Za-z]{8}", text):
        raise FaultError(f"where is one of any, wire, proxy, target, target:0 and so on, or a node's id, not {value!r}")
    return text


def _whole(settings: Mapping[str, object], key: str, low: int | None = None) -> int | None:
    value = settings.get(key)
    try:
        number = None if value is None else int(str(value))
    except ValueError:
        raise FaultError(f"{key} is a whole number, not {value!r}") from None
    if number is not None and low is not None and number < low:
        raise FaultError(f"{key} is a whole number from {low} on, not {value!r}")
    return number


def _probability(value: object) -> float | None:
    try:
        number = None if value is None else float(str(value))
    except ValueError:
        number = -1.0
    if number is not None and not 0.0 <= number <= 1.0:
        raise FaultError(f"probability is a number from 0 to 1, not {value!r}")
    return number


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return str(json.loads(text))
    return text[1:-1] if text.startswith("'") else text
