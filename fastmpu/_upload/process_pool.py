"""The worker processes of one upload, seen from the parent, and who does what: each of them, and the parent, has its
share of the lanes.

The parent sends, too, since starting an interpreter takes time in which nothing else would, and since it is a process
less to start. It does all of it in the first second, since an upload that is over by then has not paid for a worker,
and if no worker is left.

Processes: at most `processes`, each started with nothing but a socket as its standard input; what it needs comes over
that: paths to import from, descriptors, settings. No argument and no variable of the environment says anything.

Threads: "fastmpu-processes", one, starts and ends all workers: the kernel ties "end with your parent" to the *thread*
that started a process, and this one lives as long as the pool. Every 25 ms, while something is under way, it carries
`handed` from the shared memory to the parent's Exchange, and the cancel flag the other way. The threads that send parts
take a lane, talk to their worker over it, and give it back. `_lock` guards all fields; nothing is sent, started or
waited for under it.

A worker that is gone takes its parts along: whoever waits for it reads EOF at once. Another one is started in its
place, a few times. One that gives no sign of life for `silence` seconds, as when it was stopped by a signal, is killed,
and then has gone like any other. What counts is the time in which the parent looked: if both were stopped, the worker
may wake up second. Closing: `close()`, when no part is under way; the thread ends the workers and closes everything.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from .._source import Source
from .._transport import CancelFlag, Cancelled, Exchange
from ..ais.responses import MAX_BODY
from ..ais.tls import Tls
from .bandwidth import Bandwidth
from .engine import descriptor_of
from .process_messages import (
    BEAT,
    BEAT_SECONDS,
    CANCEL,
    CELLS,
    CELLS_BYTES,
    FDS_AT_ONCE,
    HANDED,
    TAKEN,
    Channel,
    Outcome,
    Setup,
    Ticket,
)
from .shared_memory import shared_memory

SHARE = 1  # of the work is this process's, as workers count; 0 in stories about workers
# Seconds of sending before workers are started; 0 in stories about both. A start costs 0.08 s of CPU, which is a fifth
# of what 1 GiB takes on a fast network, and little once a second has gone.
START_AFTER = 1.0
LEAST_SILENCE: Final = 10 * BEAT_SECONDS  # a busy machine skips beats
TICK: Final = 0.025  # seconds; with the transport's own look every 50 ms, what is cancelled ends within 75
IDLE_TICK: Final = 1.0  # while nothing is under way: for workers that die meanwhile
GRACE: Final = 5.0  # seconds after a cancel and the fence, until a worker that says nothing is ended
SETUP_SECONDS: Final = 30.0  # for a started interpreter to take what it is told
STARTS: Final = 3  # for each worker; what needs more will not get better

# Isolated (-I): nothing is imported from the current directory, and no PYTHON* variable counts. The first line that
# comes is sys.path, read without reading on.
_BOOT: Final = (
    "import json, socket, sys; control = socket.socket(fileno=0); "
    "sys.path[:] = json.loads(control.makefile('rb', 0).readline()); "
    "from fastmpu._upload.process_worker import main; main(control)"
)
# All that an interpreter, the C library and OpenSSL read. Anything else may be a secret, AIS_AUTHN_TOKEN above all.
_ENVIRONMENT: Final = (
    *("PATH", "HOME", "TZ", "TMPDIR", "LANG", "LC_", "LD_", "DYLD_", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"),
    *("SSL_CERT_", "OPENSSL_", "RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES", "MALLOC_", "GLIBC_", "COVERAGE_"),
)
_BLOCKED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = logging.getLogger("fastmpu")


class WorkerDied(httpx.ReadTimeout):
    """A worker ended with a part under way. Of a timeout's kind, since nothing shows that the target's side has ended:
    what lay in the kernel's buffers goes on."""


@dataclass
class UnderWay:
    """One ticket from the moment it is sent."""

    record: Exchange | None
    cancel: CancelFlag | None
    fence: float
    give_up_at: float | None = None  # monotonic; set by the cancel


class Lane:
    """A way to a worker for one ticket at a time. `first`: the place of its cells."""

    def __init__(self, worker: Worker, channel: Channel, first: int):
        self.worker = worker
        self.channel = channel
        self.first = first
        self.under_way: UnderWay | None = None


class Worker:
    """A process and its lanes. `index` is its place, and that of its cells in the shared memory."""

    def __init__(self, index: int, process: subprocess.Popen[bytes], control: Channel):
        self.index = index
        self.process = process
        self.control = control
        self.idle: list[Lane] = []
        self.busy = 0
        self.alive = True
        self.beats = 0  # as last seen
        self.silent = 0.0  # seconds since then
        self.too_silent = False

    def how_it_ended(self) -> str:
        if self.too_silent:
            return f"worker process {self.process.pid} gave no sign of life for {self.silent:.1f} s and was killed"
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"worker process {self.process.pid} has hung up"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"worker process {self.process.pid} {how}"


class ProcessPool:
    """`lanes` tickets at a time, spread over up to `processes` workers, which read `source`, and this process.
    `silence`: seconds."""

    def __init__(
        self,
        source: Source,
        tls: Tls | None,
        processes: int,
        lanes: int,
        silence: float = math.inf,
        bandwidth: Bandwidth | None = None,
    ):
        self._source = source
        self._tls = tls
        self._bandwidth = bandwidth
        self._silence = max(silence, LEAST_SILENCE)
        self._count = max(1, min(processes, lanes - SHARE))
        self._lanes_each = -(-lanes // (self._count + SHARE))
        self._memory = shared_memory(self._count * self._lanes_each * CELLS_BYTES)
        self._map = mmap.mmap(self._memory, 0)
        self._cells = memoryview(self._map).cast("Q")
        self._lock = threading.RLock()  # taken as it is, for the reason in ais/ledger.py
        self._changed = threading.Condition(self._lock)
        self._workers: dict[int, Worker] = {}
        self._taken: set[Lane] = set()
        self._here = 0  # tickets that this process does itself
        self._starts_left = STARTS * self._count
        self._closing = False
        self._told = False
        # A daemon, so that an interrupt before anybody could promise to close this cannot keep the interpreter: workers
        # then end with it.
        self._thread = threading.Thread(target=self._run, name="fastmpu-processes", daemon=True)
        self._thread.start()

    @property
    def pids(self) -> list[int]:
        """Of the workers that live, as far as is known."""
        with self._lock:
            return [worker.process.pid for worker in self._workers.values() if worker.alive]

    def ask(
        self, ticket: Ticket, record: Exchange | None, cancel: CancelFlag | None, fence: float = 0.0
    ) -> Outcome | None:
        """Have it done by a worker. A ticket that a worker has not begun with goes to another one. None: it is this
        process's turn; do it, then call `done_here`.

        WorkerDied: it was begun with.
        """
        while True:
            lane = self._take(cancel)
            if lane is None:
                return None
            outcome: Outcome | None = None
            try:
                for cell in (HANDED, TAKEN, CANCEL):
                    self._cells[lane.first + cell] = 0
                with self._lock:
                    lane.under_way = UnderWay(record, cancel, fence)
                    self._changed.notify_all()
                lane.channel.send(ticket)
                outcome = lane.channel.receive()
            except EOFError:
                pass
            finally:
                begun, handed = self._cells[lane.first + TAKEN], self._cells[lane.first + HANDED]
                self._give_back(lane, alive=outcome is not None)
            if outcome is not None:
                for name, value in outcome.record.items():
                    setattr(record, name, value)
                return outcome
            words = lane.worker.how_it_ended()
            _log.warning("%s", words)
            if begun:
                if record is not None:
                    record.head_sent, record.handed = True, handed
                raise WorkerDied(f"{words} before an answer came")

    def done_here(self) -> None:
        """What `ask` has left to this process has ended."""
        with self._lock:
            self._here -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the workers, and wait until they have gone. Twice is fine."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # --- lanes; any thread --------------------------------------------------------------------------------------------

    def _take(self, cancel: CancelFlag | None) -> Lane | None:
        """The least busy one's, of the workers and this process, as which None counts; a worker's if it is a tie."""
        with self._lock:
            while True:
                ready = [worker for worker in self._workers.values() if self._is_ready(worker)]
                worker = min((each for each in ready if each.idle), key=lambda each: each.busy, default=None)
                # What is a worker's is this process's as long as that has not come up, or is gone.
                share = SHARE * (1 + self._count - len(ready)) * self._lanes_each
                mine = self._here < share and (worker is None or worker.busy > self._here)
                if mine or self._alone():
                    self._here += 1
                    if self._here == 1:
                        self._changed.notify_all()
                    return None
                if worker is not None:
                    worker.busy += 1
                    lane = worker.idle.pop()
                    self._taken.add(lane)
                    return lane
                if cancel is not None and cancel.is_set():
                    raise Cancelled("cancelled on request")
                self._changed.wait(TICK)

    def _is_ready(self, worker: Worker) -> bool:
        """It has come up. Until then its lanes would keep tickets waiting that others could take."""
        return worker.alive and self._beats_of(worker) > 0

    def _alone(self) -> bool:
        """No worker is left, and none will come."""
        return self._closing or not (self._starts_left or any(each.alive for each in self._workers.values()))

    def _give_back(self, lane: Lane, *, alive: bool) -> None:
        """Without an answer its worker counts as dead: the thread ends it for certain, and starts another."""
        with self._lock:
            lane.under_way = None
            self._taken.discard(lane)
            lane.worker.busy -= 1
            if alive and lane.worker.alive:
                lane.worker.idle.append(lane)
            else:
                lane.worker.alive = False
                lane.channel.close()
            self._changed.notify_all()

    # --- workers; the pool's own thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # A worker is born with them blocked, and ignores them from its first line on. Ours come to other threads.
            signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            if SHARE and START_AFTER:
                self._let_this_process_begin()
            looked = time.monotonic()
            while True:
                with self._lock:
                    if self._closing:
                        return
                    wanted = self._missing()
                    pause = TICK if self._taken else IDLE_TICK
                    if not wanted:  # under the same lock: what changes from here on wakes us
                        self._changed.wait(pause)
                for index in wanted:
                    self._start(index)
                with self._lock:
                    under_way, workers = list(self._taken), list(self._workers.values())
                    tell = self._alone() and not (self._told or self._closing)
                    self._told |= tell
                if tell:
                    _log.warning("no worker process is left: this process sends what remains")
                for lane in under_way:
                    self._look(lane)
                before, looked = looked, time.monotonic()
                for worker in workers:
                    self._listen(worker, min(looked - before, 2 * pause))  # longer: we did not run, either
                    if worker.alive and worker.process.poll() is not None:
                        self._bury(worker)
        finally:
            with self._lock:
                self._closing = True
                workers = list(self._workers.values())
                self._changed.notify_all()
            self._end(workers)

    def _let_this_process_begin(self) -> None:
        """Wait for as long as it is to be alone: from its first ticket on, and until there is one afterwards. What
        comes before and after the parts, as a proof that reads all of them back, has no use for workers."""
        with self._lock:
            self._changed.wait_for(lambda: self._closing or self._here)
            self._changed.wait_for(lambda: self._closing, START_AFTER)
            self._changed.wait_for(lambda: self._closing or self._here)

    def _look(self, lane: Lane) -> None:
        """Carry what has changed. Ends a worker that does not listen."""
        ticket = lane.under_way
        if ticket is None:
            return
        stop = ticket.cancel is not None and ticket.give_up_at is None and _is_set(ticket.cancel)
        now = time.monotonic()
        with self._lock:
            if lane.under_way is not ticket:
                return  # it came back meanwhile, and the cells are another ticket's
            if ticket.record is not None:
                ticket.record.handed = self._cells[lane.first + HANDED]
            if stop:
                self._cells[lane.first + CANCEL] = 1
                ticket.give_up_at = now + ticket.fence + GRACE
        if ticket.give_up_at is not None and now > ticket.give_up_at:
            _log.warning("worker process %d does not answer and is killed", lane.worker.process.pid)
            lane.worker.process.kill()

    def _listen(self, worker: Worker, seconds: float) -> None:
        """Ends a worker that gives no sign of life. `seconds`: since the last time."""
        beats = self._beats_of(worker)
        if beats != worker.beats:
            worker.beats, worker.silent = beats, 0.0
            return
        worker.silent += seconds
        patience = self._silence if beats else max(self._silence, SETUP_SECONDS)
        if worker.alive and worker.silent > patience:
            worker.too_silent = True
            worker.process.kill()

    def _beats_of(self, worker: Worker) -> int:
        return self._cells[worker.index * self._lanes_each * CELLS + BEAT]

    def _missing(self) -> list[int]:
        gone = [i for i in range(self._count) if i not in self._workers or not self._workers[i].alive]
        return gone[: self._starts_left]

    def _start(self, index: int) -> None:
        if self._closing:
            return
        before = self._workers.get(index)
        if before is not None:
            self._bury(before)
            with self._lock:
                # Its cells are used again only when all who waited for it have read there what it had begun with.
                self._changed.wait_for(lambda: not before.busy or self._closing)
                if self._closing:
                    return
        try:
            worker = self._started(index)
        except (OSError, EOFError) as error:
            _log.warning("a worker process could not be started: %s", error)
            with self._lock:
                self._starts_left -= 1
                self._changed.notify_all()
            return
        with self._lock:
            self._starts_left -= 1
            self._workers[index] = worker
            self._changed.notify_all()

    def _started(self, index: int) -> Worker:
        firsts = tuple((index * self._lanes_each + i) * CELLS for i in range(self._lanes_each))
        self._cells[firsts[0] + BEAT] = 0
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, "fastmpu worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(os.environ),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = Worker(index, process, Channel(ours))
        far_ends: list[socket.socket] = []
        try:
            for first in firsts:
                near, far = socket.socketpair()
                far_ends.append(far)
                worker.idle.append(Lane(worker, Channel(near), first))
            ours.settimeout(SETUP_SECONDS)
            ours.sendall(json.dumps([each for each in sys.path if isinstance(each, str)]).encode() + b"\n")
            mapped = self._source.reading == "mmap"
            limit = self._bandwidth
            rate = None if limit is None else limit.rate
            worker.control.send(Setup(os.getpid(), self._source.name, mapped, self._tls, firsts, rate, MAX_BODY))
            source = descriptor_of(self._source)
            assert source is not None
            shared = [self._memory, source] if limit is None else [self._memory, source, limit.fileno]
            fds = [*shared, *(far.fileno() for far in far_ends)]
            for at in range(0, len(fds), FDS_AT_ONCE):
                socket.send_fds(ours, [b"."], fds[at : at + FDS_AT_ONCE])
            ours.settimeout(None)
        except BaseException:
            self._bury(worker)
            raise
        finally:
            for far in far_ends:
                far.close()
        return worker

    def _bury(self, worker: Worker) -> None:
        """End it, and let go of what led to it. Lanes under way see it, and are closed as they come back."""
        with self._lock:
            worker.alive = False
            idle, worker.idle = worker.idle, []
            waiting = [lane for lane in self._taken if lane.worker is worker]
            self._changed.notify_all()
        worker.process.kill()
        worker.process.wait()
        for lane in waiting:
            lane.channel.hang_up()
        for lane in idle:
            lane.channel.close()
        worker.control.close()

    def _end(self, workers: list[Worker]) -> None:
        for worker in workers:
            worker.process.kill()  # nothing is under way; and some may not have come up yet
        for worker in workers:
            try:
                worker.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                _log.warning("worker process %d did not end and is killed", worker.process.pid)
            self._bury(worker)
        with self._lock:
            left = list(self._taken)
        for lane in left:
            lane.channel.hang_up()
        os.close(self._memory)
        if not left:  # else a thread looks into it once more
            self._cells.release()
            self._map.close()


def _is_set(cancel: CancelFlag) -> bool:
    try:
        return cancel.is_set()
    except Exception:  # noqa: BLE001 - the caller's own event; it fails where it is asked next, too
        _log.exception("the cancel event failed and counts as set")
        return True


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in ours.items() if name.startswith(_ENVIRONMENT)}
