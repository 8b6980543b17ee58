"""What the parts are fed with: the same bytes every time, from a file in the page cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmpu._sizes import MiB

SIZE = 64 * MiB


@pytest.fixture(scope="session")
def data() -> bytes:
    return bytes(range(256)) * (SIZE // 256)


@pytest.fixture(scope="session")
def path(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("micro") / "data.bin"
    path.write_bytes(data)
    return path


def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    """The baseline is published: what the machine is, not what it is called."""
    machine_info.pop("node", None)
