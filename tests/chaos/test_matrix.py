"""The chaos matrix: every fault of the mock's menu, in every mode in which it makes sense (reliability section 3).

A cell passes when the upload ends in success or in a named error, and `bench.judge` finds nothing wrong: what is stored
is the source byte by byte, at once and after all server handlers have ended, or else nothing or the former object; no
upload id, file, thread or process is left that nobody names; the truth log shows no part stored twice, and no complete
or abort at the wrong time; no error and no log shows the token; and it does not hang.

Faults also come in pairs: each of twelve first ones with each of twelve second ones, in one of five modes by turns.

A worker process (M5) costs a quarter of a second of CPU to start, and its pool is one upload's, so M5 has one worker
with four lanes for all that happens to a part or a connection, two where one of them is to die, and a selection over
TLS, signed and mapped; what happens to other requests is the parent's, and no other than with threads. M7 goes on with
an upload that another job has left in the journal; SIGKILL at any moment is tests/upload/test_resume.py's. There is no
M6: streams cannot be uploaded yet.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.fault_cases import MIDDLEBOXES, Case
from bench.judge import Source, children, judge
from fastmpu import mock
from fastmpu._upload.fence import NETWORK_FENCE
from fastmpu.mock.faults import parse_fault

from .fault_lists import ANSWERS, BODY, CERTIFICATES, CONNECTIONS, FIRST, PROXY, SECOND, bad_headers, faults

THREADS = Case(options={"engine": "thread", "max_concurrency": 4, "read": "pread"})
PROCESSES = Case(options={"engine": "process", "processes": 1, "max_concurrency": 4, "read": "pread"})
MODES = {
    "M1-whole": Case(multipart=False, former="whole", options={"engine": "thread"}),
    "M1-whole-tls": Case(multipart=False, tls=True, options={"engine": "thread"}),
    "M2-sendfile": THREADS,
    "M3-mapped": replace(THREADS, former="whole", options={**THREADS.options, "read": "mmap"}),
    "M3-buffer": replace(THREADS, source="bytes", former="parts", options={"engine": "thread", "max_concurrency": 16}),
    "M4-tls": replace(THREADS, tls=True),
    "M5-processes": PROCESSES,
    "M5-processes-tls": replace(PROCESSES, tls=True, former="whole"),
    "M5-processes-mapped": replace(PROCESSES, former="parts", options={**PROCESSES.options, "read": "mmap"}),
    "M5-processes-signed": replace(PROCESSES, token=True, signed=True),
    "M5-processes-mixed": replace(PROCESSES, mixed=True),
    "M7-resumed": replace(THREADS, resumed=True),
    "M7-resumed-processes": replace(PROCESSES, resumed=True),
    "M8-batch-parts": Case(batch=3, options={"engine": "thread", "max_concurrency": 4}),
    "M8-batch": Case(size=40_000, multipart=False, batch=8, options={"engine": "thread"}),
    "inline": replace(THREADS, former="parts", options={"engine": "inline"}),
    "signed": replace(THREADS, token=True, signed=True),
    "signed-tls": replace(THREADS, token=True, signed=True, tls=True, former="parts"),
    "M1-whole-signed": Case(multipart=False, token=True, signed=True, options={"engine": "thread"}),
    "network": replace(THREADS, options={**THREADS.options, "fence": "network"}),
    "network-processes": replace(PROCESSES, options={**PROCESSES.options, "fence": "network"}),
    "network-tls": replace(THREADS, tls=True, former="whole", options={"engine": "thread", "fence": "network"}),
}
PARTS = ["M2-sendfile", "M3-mapped", "M3-buffer", "M4-tls", "inline"]
WHOLE = ["M1-whole", "M1-whole-tls", "M8-batch"]
REFUSED = "status(op=part, part=3, code=400)"  # an upload that is to be aborted
LOST = "lost_response(op=part, part=3)"  # one that has to ask what is recorded
OF_PAIRS = ["M2-sendfile", "M3-mapped", "M4-tls", "inline", "signed"]

# Neighbours make noise: what is asserted of times is the order of magnitude.
NOISE = 3.0


def cells() -> list[object]:
    found = []
    for mode in PARTS:
        found += [(mode, fault) for fault in faults(BODY, op="part", part=3)]
        found += [(mode, fault) for fault in faults(CONNECTIONS)]
    for mode in ("M2-sendfile", "inline"):
        found += [(mode, fault) for fault in bad_headers(op="part", part=3)]
        found += [(mode, fault) for op in ("create", "complete", "head") for fault in faults(ANSWERS, op=op)]
        found += [(mode, fault) for fault in faults(PROXY)]
    for fault, _ in faults(ANSWERS, op="abort"):
        found.append(("M2-sendfile", (f"{REFUSED}; {fault}", False)))
    for fault, survived in faults(ANSWERS, op="probe"):
        found.append(("M2-sendfile", (f"{LOST}; {fault}", survived)))
    for mode in WHOLE:
        found += [(mode, fault) for fault in faults(BODY, op="put")]
    found += [("M8-batch", fault) for fault in [*faults(CONNECTIONS), *faults(PROXY)]]
    found += [("M8-batch-parts", fault) for fault in faults(BODY, op="part", part=3)]
    found += [("signed", fault) for fault in [*faults(BODY, op="part", part=3), *faults(PROXY)]]
    found += [("signed-tls", fault) for fault in [*faults(BODY, op="part", part=3)[::3], *faults(PROXY)[::3]]]
    found += [("M1-whole-signed", fault) for fault in [*faults(BODY, op="put")[1::3], *faults(PROXY)[1::3]]]
    direct = [each for each in faults(BODY, op="part", part=3) if each[0].partition("(")[0] not in MIDDLEBOXES]
    found += [("network", fault) for fault in direct]
    found += [("network-tls", fault) for fault in direct[::2]]
    found += [("network-processes", fault) for fault in direct[3::5]]
    found += [("M5-processes", fault) for fault in [*faults(BODY, op="part", part=3), *faults(CONNECTIONS)]]
    found += [("M5-processes-tls", fault) for fault in [*faults(BODY, op="part", part=3)[::3], *faults(CONNECTIONS)]]
    found += [("M5-processes-mapped", fault) for fault in faults(BODY, op="part", part=3)[1::6]]
    found += [("M5-processes-mixed", fault) for fault in faults(BODY, op="part", part=3)[2::6]]
    found += [("M5-processes-signed", fault) for fault in faults(BODY, op="part", part=3)[4::6]]
    found += [("M7-resumed", fault) for fault in [*faults(BODY, op="part", part=4), *faults(CONNECTIONS)]]
    found += [("M7-resumed", fault) for op in ("probe", "complete") for fault in faults(ANSWERS, op=op)]
    found += [("M7-resumed-processes", fault) for fault in faults(BODY, op="part", part=4)[2::5]]
    for mode in ("M1-whole-tls", "M4-tls", "M5-processes-tls"):
        found += [(mode, fault) for fault in faults(CERTIFICATES)]
    pairs = [(first, second) for first in FIRST for second in SECOND]
    for number, (first, second) in enumerate(pairs):
        found.append((OF_PAIRS[number % len(OF_PAIRS)], (f"{first}; {second}", False)))
    return [
        pytest.param(MODES[mode], fault.split("; "), survived, id=f"{mode}-{fault}")
        for mode, (fault, survived) in found
    ]


@pytest.mark.parametrize(("case", "wanted", "survived"), cells())
def test_cell(case: Case, wanted: list[str], survived: bool) -> None:
    """Nothing is lost, nothing is left, nothing hangs; and trouble that passes is survived."""
    verdict = judge(replace(case, faults=tuple(wanted)))
    assert verdict.bad == []
    if survived and "timed out" in verdict.message:
        # A busy machine that stops for 0.3 s looks like a cluster that does. What is the client's fault comes again.
        verdict = judge(replace(case, faults=tuple(wanted)))
        assert verdict.bad == []
    if survived:
        assert verdict.outcome == "success", verdict.message
    delays = [float(str(parse_fault(each).parameters.get("ms") or 0.0)) / 1000 for each in wanted]
    if case.options.get("fence") == "network":
        delays.append(NETWORK_FENCE)
    assert verdict.seconds <= NOISE * (3 * sum(delays) + 2)


def test_a_resumed_upload_is_one() -> None:
    """Without a fault, M7 sends again what was not acknowledged, and nothing else."""
    verdict = judge(MODES["M7-resumed"])
    assert (verdict.outcome, verdict.bad) == ("success", [])
    assert verdict.counts["parts taken over from an earlier job"] > 0


# --- faults of worker processes ---------------------------------------------------------------------------------------


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_one(pids: list[int]) -> None:
    kill(pids[:1])


def stop_for_a_while(pids: list[int]) -> None:
    """All of them: the targets see silence, and the parent hears nothing."""
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.2)


STRUCK = (
    "late_response(op=part, ms=100, times=always)",
    "latency(op=part, ms=60, times=always)",
    "late_response(op=part, ms=100, times=always); lost_response(op=part, part=3, how=fin)",
    "half_dead(op=part, part=3, byte=30000, who=client, how=fin, ms=600); latency(op=part, ms=60, times=always)",
)


@pytest.mark.parametrize("strike", [kill_one, kill, stop_for_a_while])
@pytest.mark.parametrize("wanted", STRUCK)
@pytest.mark.parametrize("tls", [False, True])
def test_workers_are_struck(strike: Callable[[list[int]], object], wanted: str, tls: bool) -> None:
    """While parts are under way: the same is promised, and the upload is survived by others in their place."""
    struck: list[int] = []

    def meanwhile(cluster: mock.Cluster, source: Source) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until and not cluster.truth.attempts(op="part"):
            time.sleep(0.001)
        struck.extend(children())
        strike(struck)

    case = replace(PROCESSES, tls=tls, faults=tuple(wanted.split("; ")), options={**PROCESSES.options, "processes": 2})
    verdict = judge(case, meanwhile=meanwhile)
    assert struck, (verdict.outcome, verdict.message)
    assert verdict.bad == []
    assert verdict.outcome == "success", verdict.message
