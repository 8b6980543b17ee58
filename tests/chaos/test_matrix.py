"""The chaos matrix: every fault of the mock's menu, in every mode in which it makes sense (reliability section 3).

A cell passes when the upload ends in success or in a named error, and `bench.judge` finds nothing wrong: what is stored
is the source byte by byte, at once and after all server handlers have ended, or else nothing or the former object; no
upload id, file or thread is left that nobody names; the truth log shows no part stored twice, and no complete or abort
at the wrong time; no error and no log shows the token; and it does not hang.

Faults also come in pairs: each of twelve first ones with each of twelve second ones, in one of five modes by turns.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.fault_cases import MIDDLEBOXES, Case
from bench.judge import judge
from fastmpu._upload.fence import NETWORK_FENCE
from fastmpu.mock.faults import parse_fault

from .fault_lists import ANSWERS, BODY, CONNECTIONS, FIRST, PROXY, SECOND, bad_headers, faults

THREADS = Case(options={"engine": "thread", "max_concurrency": 4, "read": "pread"})
MODES = {
    "M1-whole": Case(multipart=False, former="whole", options={"engine": "thread"}),
    "M1-whole-tls": Case(multipart=False, tls=True, options={"engine": "thread"}),
    "M2-sendfile": THREADS,
    "M3-mapped": replace(THREADS, former="whole", options={**THREADS.options, "read": "mmap"}),
    "M3-buffer": replace(THREADS, source="bytes", former="parts", options={"engine": "thread", "max_concurrency": 16}),
    "M4-tls": replace(THREADS, tls=True),
    "M8-batch": Case(size=40_000, multipart=False, batch=8, options={"engine": "thread"}),
    "inline": replace(THREADS, former="parts", options={"engine": "inline"}),
    "signed": replace(THREADS, token=True, signed=True),
    "signed-tls": replace(THREADS, token=True, signed=True, tls=True, former="parts"),
    "M1-whole-signed": Case(multipart=False, token=True, signed=True, options={"engine": "thread"}),
    "network": replace(THREADS, options={**THREADS.options, "fence": "network"}),
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
    found += [("signed", fault) for fault in [*faults(BODY, op="part", part=3), *faults(PROXY)]]
    found += [("signed-tls", fault) for fault in [*faults(BODY, op="part", part=3)[::3], *faults(PROXY)[::3]]]
    found += [("M1-whole-signed", fault) for fault in [*faults(BODY, op="put")[1::3], *faults(PROXY)[1::3]]]
    direct = [each for each in faults(BODY, op="part", part=3) if each[0].partition("(")[0] not in MIDDLEBOXES]
    found += [("network", fault) for fault in direct]
    found += [("network-tls", fault) for fault in direct[::2]]
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
    if survived:
        assert verdict.outcome == "success", verdict.message
    delays = [float(str(parse_fault(each).parameters.get("ms") or 0.0)) / 1000 for each in wanted]
    if case.options.get("fence") == "network":
        delays.append(NETWORK_FENCE)
    assert verdict.seconds <= NOISE * (3 * sum(delays) + 2)
