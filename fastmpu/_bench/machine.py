"""Where figures were taken: machine, versions, time. A figure without them says little."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .._sizes import format_size
from .._upload.engine import usable_cores
from .._version import __version__

PACKAGES = ("aistore", "httpx", "h11", "fastcrc", "crc32c", "xxhash", "numpy")


def machine_facts() -> dict[str, Any]:
    """What the document says of the machine; `load` is that of the minute before."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": usable_cores(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": round(os.getloadavg()[0], 2),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Of Python, of fastmpu, and of what it or its rivals stand on; None: not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "fastmpu": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine_line(facts: dict[str, Any], found: dict[str, str | None]) -> str:
    """Both in one line, for people."""
    packages = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    memory = format_size(facts["memory"])
    return f"{facts['platform']}, {facts['cpus']} CPUs, {memory}, load {facts['load']}; {packages}; {facts['time']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
