"""Runs one upload under faults against a mock cluster of its own, and judges it: by what is stored now, by what is
stored when all server handlers have ended, and by the mock's truth log.

The client is a parameter. Not for several threads at once: open files and threads of the process are counted.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import fastmpu
from bench.fault_cases import SHORT, Case
from fastmpu import mock
from fastmpu._upload import pipeline, process_pool
from fastmpu.errors import FastMPUError, IntegrityError, PartError
from fastmpu.mock.faults import parse_fault
from fastmpu.mock.truth import Record

BUCKET, NAME = "bucket", "dir/object.bin"
HANG = 20.0  # seconds; the longest case is meant to take 8
QUIET = 1.5  # seconds for handlers to end by themselves
TOKEN = "canary.eyJhbGciOiJIUzI1NiJ9.0123456789abcdef-_~+/=="  # the tests' one, which no output may show
RETRIES = 13  # beside the parts, per upload id: the budget's 10, a tenth, and the first try
REFUSED = "status(op=part, part=3, code=400)"  # ends the earlier job of a case that is resumed

Source = bytes | Path
Send = Callable[[str, Source, threading.Event], object]  # object name, source, cancel; raises, or has stored it
Sender = Callable[[mock.Cluster, Case], AbstractContextManager[Send]]
Error = BaseException | None


@dataclass
class Verdict:
    """`outcome`: "success", or the error's class. All lists are empty if all is well; `counts` is allowed, and told."""

    case: Case
    outcome: str = ""
    message: str = ""
    seconds: float = 0.0
    fired: int = 0
    losses: list[str] = field(default_factory=list)  # success was reported, and the object is not the source
    wrongs: list[str] = field(default_factory=list)  # everything else that must not be
    leaks: list[str] = field(default_factory=list)
    hang: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> list[str]:
        return [*self.losses, *self.wrongs, *self.leaks, *([f"hang: {self.hang}"] if self.hang else [])]


@contextmanager
def by_fastmpu(cluster: mock.Cluster, case: Case) -> Iterator[Send]:
    """Our client, with its timeouts shortened, and by an Uploader if there is more than one object. A cleanup run takes
    parts of old uploads only: so these are old."""
    age = 0.0 if "cleanup_now" in " ".join(case.faults) else pipeline.OLD_UPLOAD
    share = patch.multiple(process_pool, SHARE=int(case.mixed), START_AFTER=0.0)
    with patch.object(pipeline, "OLD_UPLOAD", age), share, client_of(cluster) as client:
        bucket = client.bucket(BUCKET)
        if case.batch > 1:
            with fastmpu.Uploader(client, **case.upload_options()) as uploader:
                yield lambda name, source, _: uploader.submit(source, bucket.object(name)).result()
            return

        def send(name: str, source: Source, cancel: threading.Event) -> object:
            wanted = cancel if case.cancel_after is not None else None
            return bucket.object(name).upload(source, cancel=wanted, **case.upload_options())

        yield send


def client_of(cluster: mock.Cluster, **timeouts: float) -> fastmpu.Client:
    token = cluster.tokens.first if cluster.tokens else None
    times = fastmpu.Timeouts(**{**SHORT, **timeouts})
    return fastmpu.Client(cluster.endpoint, timeouts=times, ca_file=cluster.ca_file, token=token)


def judge(
    case: Case,
    sender: Sender = by_fastmpu,
    *,
    only_losses: bool = False,
    meanwhile: Callable[[mock.Cluster, Source], object] | None = None,
) -> Verdict:
    """`only_losses`: for clients that promise nothing else. `meanwhile` is called in a thread while the upload runs."""
    verdict = Verdict(case)
    threads, files, processes = set(threading.enumerate()), _open_files(), children()
    names = [NAME] if case.batch == 1 else [f"{NAME}.{number}" for number in range(case.batch)]
    cluster = mock.Cluster(
        targets=3,
        closing_delay=0.02,
        seed=case.seed,
        tls="self-made" if case.tls else None,
        tokens=[TOKEN] if case.token else None,
        signed_redirects=case.signed,
    )
    with _journal_of_its_own(), _source(case) as source, _log_lines() as lines, cluster as it:
        former = _put_former(it, case, names)
        if case.resumed and not only_losses:
            _leave_an_earlier_job(it, case, source)
        fired_before = len(it.faults.log)
        for text in case.faults:
            it.faults.add(parse_fault(text))
        other = threading.Thread(target=meanwhile or (lambda *_: None), args=(it, source), name="meanwhile")
        other.start()
        with sender(it, case) as send:
            errors = _run(verdict, names, lambda name, cancel: send(name, source, cancel))
        now = {name: _read(it, name) for name in names}
        verdict.fired = len(it.faults.log) - fired_before
        it.faults.clear()
        other.join()
        _end_handlers(verdict, it)
        misled = any(each.kind == "stale_owner" and each.op in ("head", "get") for each in it.faults.log)
        told = "\n".join(lines + [word for error in errors.values() for word in _words(error)])
        if not verdict.hang:
            for name in names:
                found = (now[name], _read(it, name))
                _judge_content(verdict, errors[name], former, found, told, misled=misled)
        if not only_losses:
            _judge_names(verdict, errors.values())
            if TOKEN in told or TOKEN[7:40] in told:
                verdict.wrongs.append("the token stands in an error or in the log")
            verdict.wrongs += [f"a worker {each}" for each in _WORKER_ENDED.findall(told)]
            _judge_truth(verdict, it, told)
    del it, cluster
    if not verdict.hang and not only_losses:
        _look_for_leaks(verdict, threads, files, processes)
    return verdict


# SIGKILL is ours alone to send; whatever else ends a worker, SIGBUS above all, is a bug.
_WORKER_ENDED = re.compile(
    r"worker process \d+ ((?:was ended by signal (?!9\b)|ended with status|has hung up|does not|did not).*)"
)


def _end_handlers(verdict: Verdict, cluster: mock.Cluster) -> None:
    """Those that still drain what a client's kernel had buffered get their connections cut, as by a restart."""
    if cluster.truth.wait_until_quiet(QUIET):
        return
    verdict.counts["handlers still reading, cut off"] += len(cluster.truth.alive)
    for target in cluster.targets:
        target.restart(keep_uploads=True)
    if not cluster.truth.wait_until_quiet(10.0):
        alive = "; ".join(f"{each.op} {each.part}" for each in cluster.truth.alive)
        verdict.wrongs.append(f"handlers do not end: {alive}")


# -- the run


def _run(verdict: Verdict, names: list[str], send: Callable[[str, threading.Event], object]) -> dict[str, Error]:
    """In threads of their own, so that a hang can be told."""
    errors: dict[str, Error] = {}
    cancel = threading.Event()

    def run(name: str) -> None:
        try:
            receipt = send(name, cancel)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is judged
            errors[name] = error
        else:
            errors[name] = None
            verdict.counts["parts taken over from an earlier job"] += getattr(receipt, "resumed", 0)

    threads = [threading.Thread(target=run, args=(name,), name="judged-upload", daemon=True) for name in names]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    if verdict.case.cancel_after is not None:
        threads[0].join(verdict.case.cancel_after)
        cancel.set()
    for thread in threads:
        thread.join(max(0.0, began + HANG - time.monotonic()))
    verdict.seconds = time.monotonic() - began
    if stuck := [thread for thread in threads if thread.is_alive()]:
        frame = sys._current_frames().get(stuck[0].ident or 0)
        verdict.hang = "".join(traceback.format_stack(frame)[-6:]) if frame else "?"
        verdict.outcome = "hang"
        cancel.set()
        return {}
    failed = [error for error in errors.values() if error is not None]
    verdict.outcome = type(failed[0]).__name__ if failed else "success"
    verdict.message = str(failed[0]) if failed else ""
    return errors


def _words(error: Error) -> list[str]:
    """All that an error says, notes and causes included."""
    words = []
    while error is not None:
        words += [str(error), *getattr(error, "__notes__", [])]
        error = error.__cause__ or error.__context__
    return words


@contextmanager
def _source(case: Case) -> Iterator[bytes | Path]:
    if case.source == "bytes":
        yield case.content()
        return
    with tempfile.TemporaryDirectory(prefix="fastmpu-judge-") as scratch:
        path = Path(scratch) / "source.bin"
        path.write_bytes(case.content())
        yield path


@contextmanager
def _journal_of_its_own() -> Iterator[None]:
    """A case must not go on with, or clear away, what an earlier one left: the same seed has the same ids."""
    with tempfile.TemporaryDirectory(prefix="fastmpu-judge-") as state, patch.dict(os.environ, XDG_STATE_HOME=state):
        yield


@contextmanager
def _log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("fastmpu")
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _put_former(cluster: mock.Cluster, case: Case, names: list[str]) -> bytes | None:
    """What is there before. An object in parts is the one that a failed complete may lose (protocol H6)."""
    bucket = cluster.bucket(BUCKET)
    former = b"what was there before" * 100
    if case.former == "none":
        return None
    if case.former == "whole":
        for name in names:
            bucket.put(name, former)
        return former
    with client_of(cluster, connect=5, write=30, response=60, fence=2) as client:
        for name in names:
            client.bucket(BUCKET).object(name).upload(former, part_size=1000, multipart_threshold=1)
    cluster.truth.wait_until_quiet(10.0)
    cluster.truth.clear()
    return former


def _leave_an_earlier_job(cluster: mock.Cluster, case: Case, source: Source) -> None:
    """One that was given up after some parts, and kept: the journal has it, and this process does not."""
    with cluster.faults.add(parse_fault(REFUSED)), client_of(cluster) as client:
        obj = client.bucket(BUCKET).object(NAME)
        try:
            obj.upload(source, **{**case.upload_options(), "engine": "inline", "on_error": "keep", "deadline": None})
        except PartError:
            return
    raise AssertionError("the earlier job was not given up")


# -- the object


def _read(cluster: mock.Cluster, name: str) -> bytes | str | None:
    """As GET would find it: its bytes, None, or why it breaks off."""
    try:
        return cluster.bucket(BUCKET).read(name)
    except KeyError:
        return None
    except LookupError as error:
        return str(error.args[0])


def _judge_content(
    verdict: Verdict,
    error: Error,
    former: bytes | None,
    finds: tuple[bytes | str | None, bytes | str | None],
    told: str,
    *,
    misled: bool,
) -> None:
    """`finds`: what was there at once, and when all handlers had ended. `misled`: the proxy's word is all that a client
    has of who owns a name; if it is wrong for the upload and for the look afterwards, nobody can notice.
    """
    content = verdict.case.content()
    for when, found in zip(("at once", "after all handlers ended"), finds, strict=True):
        if error is None:
            if found != content and misled:
                verdict.counts["stored on, and verified by, a target that the proxy named wrongly"] += when == "at once"
            elif found != content:
                verdict.losses.append(f"silent loss: success, but {when} GET finds {_shown(found)}")
        elif found == content:
            verdict.counts["error, yet the object is there whole"] += when == "at once"
        elif found != former:
            if isinstance(error, IntegrityError):
                verdict.counts["IntegrityError, object " + ("deleted" if found is None else "left")] += (
                    when == "at once"
                )
            elif "was not verified" in told:
                verdict.counts["damaged object stands, and the error says: not verified"] += when == "at once"
            elif found is None and "was damaged and was deleted" in told:
                verdict.counts["a damaged object was deleted, and the error says so"] += when == "at once"
            elif "H6" in told or "older object" in told:
                verdict.counts["former object lost by a failed complete, and said so (H6)"] += when == "at once"
            elif isinstance(found, bytes) and _carried_out_though_refused(verdict.case):
                verdict.counts["damaged object stands after a complete that the cluster said to have refused"] += (
                    when == "at once"
                )
            else:
                verdict.wrongs.append(
                    f"{when} after {type(error).__name__} GET finds {_shown(found)}, before it was {_shown(former)}"
                )


def _carried_out_though_refused(case: Case) -> bool:
    """Whether a fault says "refused" in AIStore's name of a complete that it carried out, as AIStore does not. The
    error is raised, as it must be; that the parts were damaged as well would only be found by looking at the object.
    """
    faults = [parse_fault(text) for text in case.faults]
    return any(
        fault.kind == "status" and fault.op in ("complete", "any") and fault.parameters["when"] == "after"
        for fault in faults
    )


def _judge_names(verdict: Verdict, errors: Iterable[Error]) -> None:
    for error in errors:
        if error is not None and not isinstance(error, FastMPUError):
            text = "".join(traceback.format_exception(error)[-12:])
            verdict.wrongs.append(f"an error without a name of ours: {text}")


def _shown(found: bytes | str | None) -> str:
    if found is None:
        return "nothing"
    return f"an object of {len(found)} bytes" if isinstance(found, bytes) else f"a hole ({found})"


# -- the cluster


def _judge_truth(verdict: Verdict, cluster: mock.Cluster, told: str) -> None:
    truth = cluster.truth
    for sentence in truth.violations():
        if sentence.startswith("abort of"):
            continue  # looked at below: after a fence it is right
        if _lied(cluster, sentence):
            verdict.counts["part sent again, since the cluster refused what it had stored"] += 1
            continue
        verdict.wrongs.append(f"truth: {sentence}")
    parts = truth.attempts(op="part")
    for abort in truth.attempts(op="abort"):
        for living in parts:
            if living.upload_id == abort.upload_id and living.started < abort.started and _lives_at(living, abort):
                verdict.counts["abort of a given-up upload while a fenced attempt lived"] += 1
                if abort.started - living.started < SHORT["fence"] and not living.faults:
                    verdict.wrongs.append(f"abort without a fence: part {living.part} of {abort.upload_id} lived")
    case = verdict.case
    for upload_id, sent in Counter(each.upload_id for each in parts).items():
        if sent > case.parts * 1.2 + RETRIES:
            verdict.wrongs.append(f"{sent} part requests under {upload_id} for {case.parts} parts")
    verdict.counts["part requests beyond the plan"] += max(0, len(parts) - case.parts) if case.multipart else 0
    _look_for_uploads(verdict, cluster, told)


def _lied(cluster: mock.Cluster, sentence: str) -> bool:
    """Whether a fault said "refused" in AIStore's name, of a part that was stored. AIStore v5.0 does not do that, and
    nobody can tell; but the part was sent again for that reason alone, so it has to be found out by its range probe.
    """
    lied = any(each.kind == "status" and each.op == "part" for each in cluster.faults.log)
    return lied and ("stored twice" in sentence or "a late attempt" in sentence)


def _lives_at(attempt: Record, other: Record) -> bool:
    return attempt.ended is None or attempt.ended > other.started


def _look_for_uploads(verdict: Verdict, cluster: mock.Cluster, told: str) -> None:
    """Upload ids that the cluster still knows: named to the user, or beyond the client's knowledge, or leaked."""
    for target in cluster.targets:
        for upload_id in list(target._node.uploads._uploads):
            of_it = cluster.truth.attempts(upload_id=upload_id)
            if upload_id in told:
                verdict.counts["upload id left and named"] += 1
            elif not of_it:
                # Its create was never answered, so the client cannot know it. It holds no parts.
                verdict.counts["upload id left, whose create was not answered"] += 1
            elif not any(each.where == target.id for each in of_it):
                verdict.counts["upload id left on a target that the proxy does not name (H10)"] += 1
            else:
                verdict.leaks.append(f"upload {upload_id} is left, and nobody says so")


# -- this process


def _open_files() -> set[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}")
        except OSError:
            continue  # the one that listed the directory
    return found


def children() -> set[int]:
    """Of this process, dead ones that nobody has waited for included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return found


def _look_for_leaks(verdict: Verdict, threads: set[threading.Thread], files: set[str], processes: set[int]) -> None:
    """All there is must be gone within two seconds: threads of the mock need a moment. Workers need none."""
    verdict.leaks += [f"worker process {pid}" for pid in children() - processes]
    until = time.monotonic() + 2.0
    while True:
        more = {each for each in threading.enumerate() if each not in threads}
        opened = _open_files() - files
        if not more and not opened:
            return
        gc.collect()
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    verdict.leaks += [f"thread {each.name}" for each in more] + [f"file {each}" for each in sorted(opened)]
