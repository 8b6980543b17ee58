"""A cluster map that is newer than now, for many who want one at the same time.

Threads: any. One lock guards the counts; the map is fetched outside of it, by the first who asks while nobody does, for
all who asked before that. So however many objects are stored at once, a map is on its way only once.
"""

from __future__ import annotations

import threading

from ..ais.cluster_map import ClusterMap
from ..ais.endpoint import Endpoint


class MapWatch:
    """Over one endpoint."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._changed = threading.Condition()
        self._begun = 0  # fetches
        self._ended = 0  # the number of the latest that was good
        self._under_way = False
        self._map: ClusterMap | None = None

    def newer(self) -> ClusterMap:
        """The map as it was at some time after this call. Raises what fetching it does."""
        with self._changed:
            before = self._begun
            while self._under_way and self._ended <= before:
                self._changed.wait()
            if self._map is not None and self._ended > before:
                return self._map
            self._under_way = True
            self._begun += 1
            number = self._begun
        fetched: ClusterMap | None = None
        try:
            fetched = self._endpoint.cluster_map(fresh=True)
            return fetched
        finally:
            with self._changed:
                self._under_way = False
                if fetched is not None:
                    self._map, self._ended = fetched, number
                self._changed.notify_all()
