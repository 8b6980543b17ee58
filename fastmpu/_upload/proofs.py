"""Small objects that are stored, and wait for their proof: a cluster map that is newer than their answers.

One map serves all that were stored before it was asked for, so nobody waits for it in a lane: an object is parked, its
lane goes on with the next one, and a thread asks for a map and resumes all that are parked by then.

Threads: "fastmpu-proof_0" asks and resumes while something is parked, and waits for the cluster only. A lane waits for
it when `most` are parked. One lock guards all fields; asking and resuming are done without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..ais.cluster_map import ClusterMap
from ..ais.endpoint import Endpoint
from ..ais.object import Put
from ..errors import FastMPUError

# Seconds between two maps while others are on their way: at 1,000 objects a second ten share one, and none waits long.
PAUSE: Final = 0.01

logger = logging.getLogger("fastmpu")

Resume = Callable[[bool], object]


class Proofs:
    """Over one endpoint. `most` may be parked at a time; 0: none, each is proved in the thread that parks it. Close it
    after the lanes have ended."""

    def __init__(self, endpoint: Endpoint, most: int):
        self._endpoint = endpoint
        self._most = most
        self._thread = ThreadPoolExecutor(1, "fastmpu-proof")
        self._lock = threading.Lock()
        self._all_here = threading.Condition(self._lock)  # nobody else is coming
        self._taken = threading.Condition(self._lock)  # there is room again, or nothing left
        self._parked: list[tuple[Put, Resume]] = []
        self._coming = 0
        self._at_work = False
        self._asked = -PAUSE  # when

    def coming(self) -> None:
        """One more may come to be parked. Each ends by `park` or `gone`."""
        with self._lock:
            self._coming += 1

    def gone(self) -> None:
        """It has ended in another way."""
        with self._lock:
            self._has_come()

    def park(self, put: Put, resume: Resume) -> None:
        """`resume` is called, in the thread from here, with whether `put` went to the owner of its name; it must be
        quick. Waits while too many are parked."""
        with self._lock:
            while len(self._parked) >= self._most > 0:
                self._taken.wait()
            self._has_come()
            if self._most:
                self._parked.append((put, resume))
                begin, self._at_work = not self._at_work, True
        if not self._most:
            self._end([(put, resume)])
        elif begin:
            self._begin()

    def close(self) -> None:
        """Wait until nothing is parked. Twice is fine."""
        with self._lock:
            self._taken.wait_for(lambda: not self._at_work)
        self._thread.shutdown(wait=True)

    def _has_come(self) -> None:
        self._coming -= 1
        if not self._coming:
            self._all_here.notify_all()

    def _begin(self) -> None:
        try:
            self._thread.submit(self._prove)
        except RuntimeError:  # an executor's word for an interpreter that is shutting down
            self._prove()

    def _prove(self) -> None:
        while batch := self._take():
            self._end(batch)

    def _take(self) -> list[tuple[Put, Resume]]:
        """All that are parked, after a pause for others to come along."""
        with self._lock:
            while self._parked and self._coming and (left := self._asked + PAUSE - time.monotonic()) > 0:
                self._all_here.wait(left)
            batch, self._parked = self._parked, []
            self._at_work = bool(batch)
            self._asked = time.monotonic()
            self._taken.notify_all()
        return batch

    def _end(self, batch: list[tuple[Put, Resume]]) -> None:
        known: ClusterMap | None = None
        try:
            known = self._endpoint.cluster_map(fresh=True)
        except FastMPUError as error:
            logger.info("no cluster map: %s", error)
        for put, resume in batch:
            resume(known is not None and put.at_owner(known))
