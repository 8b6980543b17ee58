"""Small objects that are stored, and wait for their proof: a cluster map that is newer than their answers.

One map serves all that were stored before it was asked for, so nobody waits for it in a lane: an object is parked, its
lane goes on with the next one, and the small lane, beside its own work, asks for a map and resumes all that are parked
by then. What the map does not prove has to be looked at, which may take long and send a body: that is for lanes again,
before all else.

Threads: the small lane's asks and resumes while something is parked. All lanes park. While `most` are held, from being
parked to their end, the small lane begins nothing, and another lane waits, or makes room by looking at one. One lock
guards all fields (what is doubtful is also taken without it, which its deque allows); asking, resuming and looking are
done without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

from .._transport import pause, waiter
from ..ais.endpoint import Endpoint
from ..ais.object import Put
from .small_lane import SmallLane

# Seconds between two maps while others are on their way: at 1,000 objects a second twenty share one, and none waits
# long.
PAUSE: Final = 0.02
LOOK: Final = 0.002  # seconds between looks whether anybody is still on the way

logger = logging.getLogger("fastmpu")


class Parked(NamedTuple):
    """`resume` is called once with whether `put` went to the owner of its name: with True it must be quick. What it
    gives is called after it, and tells whoever waits."""

    put: Put
    resume: Callable[[bool], Callable[[], object]]


class Proofs:
    """Over one endpoint, for the objects that `small_lane` and `lanes` store."""

    def __init__(self, endpoint: Endpoint, small_lane: SmallLane, lanes: Executor, most: int):
        self._endpoint = endpoint
        self._small_lane = small_lane
        self._lanes = lanes
        self._most = most
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # or something to look at
        self._parked: list[Parked] = []
        self._doubtful: deque[Parked] = deque()
        self._held = 0
        self._coming = 0
        self._at_work = False
        self._asked = -PAUSE  # when

    def coming(self) -> None:
        """One more may come to be parked. Each comes by `park`, or is `gone`."""
        with self._lock:
            self._coming += 1

    def gone(self) -> None:
        """It has ended without."""
        with self._lock:
            self._coming -= 1

    @property
    def has_room(self) -> bool:
        """For one more to be begun."""
        return self._held < self._most or bool(self._doubtful)

    def park(self, one: Parked) -> None:
        """Until it has `ended`. In a lane; one that is a thread of its own waits for room."""
        if waiter() is None:
            self._wait_for_room()
        with self._lock:  # a few too many do no harm
            self._coming -= 1
            self._held += 1
            self._parked.append(one)
            begin, self._at_work = not self._at_work, True
        if begin:
            try:
                self._small_lane.beside(self._prove)
            except RuntimeError:  # the interpreter is shutting down, and nothing was submitted
                self._prove()

    def _wait_for_room(self) -> None:
        """Or make it, by looking at another."""
        while True:
            with self._lock:
                while self._held >= self._most and not self._doubtful:
                    self._room.wait()
                if self._held < self._most:
                    return
                other = self._doubtful.popleft()
            other.resume(False)()

    def ended(self) -> None:
        """One that was parked."""
        with self._lock:
            self._held -= 1
            self._room.notify()
        self._small_lane.wake()

    def look(self) -> None:
        """At all that no map has proved. In a lane."""
        while True:
            try:
                one = self._doubtful.popleft()
            except IndexError:
                return
            one.resume(False)()

    def _prove(self) -> None:
        while batch := self._take():
            doubtful: list[Parked] = []
            tell: list[Callable[[], object]] = []
            for one, proved in zip(batch, self._proved(batch), strict=True):
                if proved:
                    tell.append(one.resume(True))
                else:
                    doubtful.append(one)
            # All in one go. Who waits for one after the other would wake for each, and have the interpreter as soon as
            # a file is closed here: two threads on two cores that hand it over, object by object.
            for each in tell:
                each()
            if doubtful:
                with self._lock:
                    self._doubtful += doubtful
                    self._room.notify_all()
                try:
                    self._lanes.submit(self.look)
                except RuntimeError:  # the interpreter is shutting down; twice would do no harm
                    self.look()

    def _proved(self, batch: list[Parked]) -> list[bool]:
        try:
            return at_owners(self._endpoint, [one.put for one in batch])
        except BaseException:  # noqa: BLE001 - as a token function's SystemExit: whoever looks at them is told
            return [False] * len(batch)

    def _take(self) -> list[Parked]:
        """All that are parked, after a pause for others to come along."""
        while True:
            with self._lock:
                left = self._asked + PAUSE - time.monotonic()
                if left <= 0 or not self._parked or not self._coming or self._held >= self._most:
                    batch, self._parked = self._parked, []
                    self._at_work = bool(batch)
                    self._asked = time.monotonic()
                    return batch
            pause(min(left, LOOK))


def at_owners(endpoint: Endpoint, puts: Sequence[Put]) -> list[bool]:
    """Whether each went to the owner of its name, by a map that is asked for now; False where that is not known."""
    try:
        known = endpoint.cluster_map(fresh=True)
        return [put.at_owner(known) for put in puts]
    except Exception as error:  # noqa: BLE001 - also a token function of the user's may fail: then HEAD tells, or fails
        logger.info("no cluster map: %s", error)
        return [False] * len(puts)
