"""How long the interpreter, `import fastmpu` and `fastmpu --help` take: `python -m bench.startup [--runs N]`.

Fresh processes, turn by turn; median (minimum-maximum) of wall ms, interpreter included, and the goals of issue 7.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from bench.measure import print_machine, spread

COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import fastmpu": (["-c", "import fastmpu"], 150),
    "import fastmpu; fastmpu.upload": (["-c", "import fastmpu; fastmpu.upload"], None),
    "fastmpu --help": (["-m", "fastmpu", "--help"], 350),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--runs", type=int, default=11, help="counted runs, after one that is not (default %(default)s)"
    )
    runs = parser.parse_args().runs
    print_machine(["fastmpu", "httpx", "typer", "rich"])
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, (arguments, _) in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if run:
                times[name].append((time.perf_counter() - began) * 1000)
    print(f"\n{'':34}{'ms':>20}{'goal':>8}")
    for name, (_, goal) in COMMANDS.items():
        print(f"{name:34}{spread(times[name], '.0f'):>20}{'' if goal is None else f'{goal:.0f}':>8}")


if __name__ == "__main__":
    main()
