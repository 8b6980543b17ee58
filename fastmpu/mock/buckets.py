"""The buckets of the cluster: their properties and their rate limits (protocol 3).

With a catalogue they outlive the process.

Threads: any. The table has one lock; a bucket's properties are replaced, never changed in place.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from typing import Any

from fastmpu.mock.answers import Refusal
from fastmpu.mock.catalogue import Catalogue
from fastmpu.mock.checksums import TYPES
from fastmpu.mock.messages import fields_of, parse_duration
from fastmpu.mock.names import Bck, check_bucket_name

__all__ = ["Bucket", "Buckets"]

_DEFAULTS: dict[str, Any] = {
    "provider": "ais",
    "versioning": {"enabled": True, "validate_warm_get": False, "synchronize": False},
    "checksum": {
        "type": "xxhash2",
        "validate_cold_get": True,
        "validate_warm_get": False,
        "validate_obj_move": False,
        "enable_read_range": False,
    },
    "lru": {"dont_evict_time": "120m", "capacity_upd_time": "10m", "enabled": False},
    "mirror": {"copies": 2, "burst_buffer": 512, "enabled": False},
    "ec": {"objsize_limit": 262144, "compression": "never", "data_slices": 1, "parity_slices": 1, "enabled": False},
    "chunks": {"objsize_limit": "0B", "max_monolithic_size": "1TiB", "chunk_size": "1GiB", "checkpoint_every": 0},
    "rate_limit": {
        "frontend": {"interval": "1m", "max_tokens": 1000, "burst_size": 375, "enabled": False},
        "backend": {"interval": "1m", "max_tokens": 1000, "enabled": False},
    },
    "extra": {},
    "write_policy": {"data": "", "md": ""},
    "access": "18446744073709551615",
    "features": "0",
}
_RECORD = "bucket "  # how its key in the catalogue begins
_RESUME_INTERRUPTED = 1 << 21  # bit of "features"
_BACKEND_NAMES = {"aws": "AWS", "gcp": "GCP", "azure": "Azure", "oci": "OCI"}
_FURTHER_DETAILS = "further details at https://github.com/NVIDIA/aistore/blob/main/docs/bucket.md#bucket-lifecycle"


class Bucket:
    """One bucket. Its rate limit counts each limited method by itself."""

    def __init__(self, bck: Bck, props: dict[str, Any]) -> None:
        self.bck = bck
        self.props = props
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, float]] = {}  # method -> tokens left, and when that was

    @property
    def checksum_type(self) -> str:
        return str(self.props["checksum"]["type"])

    @property
    def versioned(self) -> bool:
        return bool(self.props["versioning"]["enabled"])

    @property
    def checkpoint_every(self) -> int:
        """How many parts make a checkpoint that survives a target's restart; 0: none do (protocol 5.4)."""
        resumes = int(self.props["features"]) & _RESUME_INTERRUPTED
        return int(self.props["chunks"]["checkpoint_every"]) if resumes else 0

    def take_token(self, method: str) -> None:
        """Refuse with 429 what exceeds the frontend limit: a burst, then so many per interval (protocol 2)."""
        limit = self.props["rate_limit"]["frontend"]
        if not limit["enabled"]:
            return
        per_second = limit["max_tokens"] / parse_duration(limit["interval"])
        now = time.monotonic()
        with self._lock:
            left, since = self._tokens.get(method, (float(limit["burst_size"]), now))
            left = min(float(limit["burst_size"]), left + (now - since) * per_second)
            self._tokens[method] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            raise Refusal(429, "Too Many Requests", "ErrRateLimitFrontend")


class Buckets:
    """All buckets by their identity."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._lock = threading.Lock()
        self._catalogue = catalogue
        self._buckets: dict[Bck, Bucket] = {}
        for key, props in catalogue.records.items() if catalogue is not None else ():
            if key.startswith(_RECORD):
                bck = Bck(*json.loads(key.removeprefix(_RECORD)))
                self._buckets[bck] = Bucket(bck, props)
        self._made = max((int(bucket.props["bid"]) for bucket in self._buckets.values()), default=0)

    def find(self, bck: Bck, *, missing: int = 404, proxy: str = "") -> Bucket:
        """The bucket; refused with `missing` if there is none. A proxy, named as errors name it, would ask backends."""
        check_bucket_name(bck.name)
        if bck.provider != "ais":
            if not proxy:
                raise Refusal(missing, _remote_is_missing(bck), "ErrRemoteBckNotFound")
            reason = f"{_BACKEND_NAMES[bck.provider]} backend is missing in the cluster configuration"
            raise Refusal(404, f"{proxy}: failed to lookup bucket {bck}, err: {reason}", "ErrFailedTo")
        if bck.uuid:
            raise Refusal(404, _remote_is_missing(bck), "ErrRemoteBckNotFound")
        bucket = self._buckets.get(bck)
        if bucket is None:
            raise Refusal(missing, f'bucket "{bck}" does not exist', "ErrBckNotFound")
        return bucket

    def create(self, bck: Bck, value: Any, node: str) -> None:
        check_bucket_name(bck.name)
        if bck.provider != "ais" or bck.uuid:
            raise Refusal(501, f"{_remote_is_missing(bck)} ({_FURTHER_DETAILS})", "ErrRemoteBckNotFound")
        with self._lock:
            if bck in self._buckets:
                raise Refusal(409, f'bucket "{bck}" already exists', "ErrBucketAlreadyExists")
            self._made += 1
            own = {"bid": str(self._made), "created": str(time.time_ns())}
            self._buckets[bck] = Bucket(bck, _merged(_DEFAULTS | own, value, node))
            self._keep(bck, self._buckets[bck].props)

    def set_props(self, bck: Bck, value: Any, node: str) -> None:
        bucket = self.find(bck, proxy=node)
        bucket.props = _merged(bucket.props, value, node)
        self._keep(bck, bucket.props)

    def destroy(self, bck: Bck, node: str) -> None:
        self.find(bck, proxy=node)
        with self._lock:
            self._buckets.pop(bck, None)
            self._keep(bck, None)

    def all(self) -> list[Bck]:
        with self._lock:
            return sorted(self._buckets, key=str)

    def _keep(self, bck: Bck, props: dict[str, Any] | None) -> None:
        if self._catalogue is not None:
            self._catalogue.put(_RECORD + json.dumps([bck.name, bck.provider, bck.uuid, bck.namespace]), props)


def _remote_is_missing(bck: Bck) -> str:
    return f'{"remote" if bck.provider == "ais" else bck.provider} bucket "{bck}" does not exist'


def _merged(props: dict[str, Any], value: Any, node: str) -> dict[str, Any]:
    """`props` with what `value` sets. Refused with 400: unknown properties, and values that make no sense."""
    merged = copy.deepcopy(props)
    if value is None:
        return merged
    _merge(merged, value, node)
    type_ = merged["checksum"]["type"]
    if type_ not in TYPES:
        raise Refusal(400, f'invalid checksum type "{type_}" (expecting [{" ".join(sorted(TYPES[:-1]))} none])')
    frontend = merged["rate_limit"]["frontend"]
    try:
        usable = parse_duration(frontend["interval"]) > 0 and frontend["max_tokens"] > 0 and frontend["burst_size"] > 0
        usable = usable and int(merged["features"]) >= 0
    except ValueError as error:
        raise Refusal(400, f"invalid bucket property: {error}") from error
    if not usable:
        raise Refusal(400, "invalid bucket property: rate_limit.frontend wants positive numbers")
    return merged


def _merge(props: dict[str, Any], value: Any, node: str) -> None:
    given = fields_of(value, {key: type(item) for key, item in props.items()}, node)
    for key, item in props.items():
        if key not in value or value[key] is None:
            continue
        if isinstance(item, dict) and item:
            _merge(item, given[key], node)
        else:
            props[key] = given[key]
