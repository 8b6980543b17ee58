"""Random uploads under random faults, each judged by reading back: what a client loses without saying so.

    python -m bench.random_uploads --n 10000 --seed 1                     # fastmpu
    python -m bench.random_uploads --n 500 --client both                  # and AIStore's own SDK beside it
    python -m bench.random_uploads --only 4711                            # one case again, by its seed

Every upload has a mock cluster of its own, with one to three faults of its menu. The SDK gets the same cases: bytes in
parts, three threads, as in its notebook; its waits and timeouts are shortened through its public API, its policy is not
touched. The exit code is 1 if fastmpu lost, hung or leaked anything.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.fault_cases import draw
from bench.judge import Verdict, by_fastmpu, judge
from bench.measure import print_machine

CLIENTS = ("fastmpu", "sdk")
BATCH = 25


@dataclass
class Tally:
    """What many verdicts come to."""

    client: str
    outcomes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    silent_losses: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    faultless: int = 0  # no fault happened before the upload was over
    longest: float = 0.0

    def add(self, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.counts += verdict.counts
        self.faultless += not verdict.fired
        self.longest = max(self.longest, verdict.seconds)
        seed = f"seed {verdict.case.seed}"
        if verdict.losses:
            self.silent_losses.append(f"{seed}: {verdict.losses[0]} [{verdict.case}]")
        if verdict.hang:
            self.hangs.append(f"{seed}: {verdict.hang} [{verdict.case}]")
        self.wrongs += [f"{seed}: {each} [{verdict.case}]" for each in verdict.wrongs]
        self.leaks += [f"{seed}: {each} [{verdict.case}]" for each in verdict.leaks]

    @property
    def uploads(self) -> int:
        return sum(self.outcomes.values())

    @property
    def bad(self) -> list[str]:
        return [*self.silent_losses, *self.wrongs, *self.leaks, *self.hangs]


def judge_seeds(client: str, seeds: Sequence[int]) -> list[Verdict]:
    """One after the other, in this process."""
    if client == "fastmpu":
        return [judge(draw(seed), by_fastmpu) for seed in seeds]
    from bench.sdk_job import by_sdk  # the SDK is no dependency of fastmpu

    logging.getLogger().addHandler(logging.NullHandler())  # it tells each retry
    return [judge(draw(seed), by_sdk, only_losses=True) for seed in seeds]


def verdicts(client: str, seeds: Sequence[int], processes: int) -> Iterator[Verdict]:
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for batch in pool.map(judge_seeds, [client] * len(batches), batches):
            yield from batch


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=1000, help="uploads (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (default %(default)s)")
    parser.add_argument("--client", choices=(*CLIENTS, "both"), default="fastmpu")
    parser.add_argument("--processes", type=int, default=2, help="most time is waiting: 8 do no harm on 2 cores")
    parser.add_argument("--only", type=int, metavar="SEED", help="one case, told in full")
    options = parser.parse_args(arguments)
    clients = CLIENTS if options.client == "both" else (options.client,)

    print_machine(["fastmpu", "aistore"])
    print("against a MOCK of AIStore v5.0 (1 proxy, 3 targets, in memory), a fresh one for every upload")
    if options.only is not None:
        return _tell(clients, options.only)
    seeds = range(options.seed, options.seed + options.n)
    tallies = []
    for client in clients:
        tally = Tally(client)
        began = time.monotonic()
        for verdict in verdicts(client, seeds, options.processes):
            tally.add(verdict)
            if tally.uploads % 1000 == 0:
                print(f"  {client}: {tally.uploads} done, {len(tally.bad)} bad", file=sys.stderr)
        tallies.append(tally)
        print(f"{client}: {tally.uploads} uploads in {time.monotonic() - began:.0f} s, seeds {seeds[0]} to {seeds[-1]}")
    print()
    _print_table(tallies)
    return int(any(tally.bad for tally in tallies if tally.client == "fastmpu"))


def _tell(clients: Sequence[str], seed: int) -> int:
    bad = False
    for client in clients:
        verdict = judge_seeds(client, [seed])[0]
        print(f"{client}: {verdict.case}")
        print(f"  {verdict.outcome} after {verdict.seconds:.2f} s, {verdict.fired} faults happened: {verdict.message}")
        for each in [*verdict.bad, *(f"{count} x {what}" for what, count in (+verdict.counts).items())]:
            print(f"  {each}")
        bad = bad or bool(verdict.bad)
    return int(bad)


def _print_table(tallies: Sequence[Tally]) -> None:
    def row(what: str, values: Sequence[object]) -> None:
        print(f"{what:62}" + "".join(f"{value!s:>12}" for value in values))

    row("", [tally.client for tally in tallies])
    row("uploads", [tally.uploads for tally in tallies])
    row("  of them over before a fault happened", [tally.faultless for tally in tallies])
    row("success", [tally.outcomes["success"] for tally in tallies])
    for name in sorted({name for tally in tallies for name in tally.outcomes} - {"success", "hang"}):
        row(f"  {name}", [tally.outcomes[name] for tally in tallies])
    row("SILENT LOSSES (success, and GET differs or breaks off)", [len(tally.silent_losses) for tally in tallies])
    holes = [sum("a hole" in each or "finds nothing" in each for each in tally.silent_losses) for tally in tallies]
    row("  of them holes, or no object at all", holes)
    row("hangs", [len(tally.hangs) for tally in tallies])
    row("leaks (files, threads, upload ids)", [len(tally.leaks) for tally in tallies])
    row("other wrongs (see below)", [len(tally.wrongs) for tally in tallies])
    row("longest upload, s", [f"{tally.longest:.1f}" for tally in tallies])
    print("allowed, and counted:")
    for what in sorted({what for tally in tallies for what in +tally.counts}):
        row(f"  {what}", [tally.counts[what] for tally in tallies])
    for tally in tallies:
        shown = tally.bad if tally.client == "fastmpu" else tally.silent_losses[:5]
        for each in shown:
            print(f"{tally.client} {each}")


if __name__ == "__main__":
    sys.exit(main())
