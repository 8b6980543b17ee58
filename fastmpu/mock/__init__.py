"""A mock AIStore cluster in one process, for trials and tests.

    with Cluster(targets=3) as cluster:
        ...  # AIS_ENDPOINT is cluster.endpoint

It speaks HTTP on ports of its own and loses data where AIStore v5.0 does (see `quirks`). Read it top down: `cluster`
makes the nodes, `server` runs one, `proxy` and `target` answer, `uploads` and `store` hold what AIStore holds. What can
be made to go wrong is in `fault_menu`, what really happened in `truth`.
"""

from fastmpu.mock.auth import Tokens
from fastmpu.mock.certificates import Authority
from fastmpu.mock.cluster import Cluster, Target
from fastmpu.mock.faults import Fault, FaultError, Faults, parse_fault, parse_faults
from fastmpu.mock.inside import BucketView
from fastmpu.mock.links import Link
from fastmpu.mock.quirks import Quirks
from fastmpu.mock.tls import Tls
from fastmpu.mock.truth import Record, Truth

__all__ = [
    "Authority",
    "BucketView",
    "Cluster",
    "Fault",
    "FaultError",
    "Faults",
    "Link",
    "Quirks",
    "Record",
    "Target",
    "Tls",
    "Tokens",
    "Truth",
    "parse_fault",
    "parse_faults",
]
