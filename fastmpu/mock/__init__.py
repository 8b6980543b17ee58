"""A mock AIStore cluster in one process, for trials and tests.

    with Cluster(targets=3) as cluster:
        ...  # AIS_ENDPOINT is cluster.endpoint

It speaks HTTP on ports of its own and loses data where AIStore v5.0 does (see `quirks`). Read it top down: `cluster`
makes the nodes, `server` runs one, `proxy` and `target` answer, `uploads` and `store` hold what AIStore holds.
"""

from fastmpu.mock.cluster import Cluster, Target
from fastmpu.mock.quirks import Quirks

__all__ = ["Cluster", "Quirks", "Target"]
