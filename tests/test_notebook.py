"""The notebook does what it says: every cell runs, in a fresh kernel of this Python, and shows what it should."""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "multipart_upload.ipynb"
SIZE = 8 * (1 << 20) + 54_321  # of the notebook's file: nine parts of 1 MiB, the last one short
CELL_SECONDS = 60


class ThisPython(KernelSpecManager):
    """One kernel, whatever its name: the Python that runs the tests. None has to be registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


@pytest.fixture(autouse=True)
def jupyter_in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor connection files of the user's, so that test processes cannot meet there."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")


def test_the_notebook_is_stored_without_outputs() -> None:
    """A stored output is somebody's machine on some day; readers are to see their own."""
    notebook = stored()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []


def test_every_cell_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    """AIStore's three examples, then upload(): on the mock, or on the cluster that AIS_ENDPOINT names."""
    shown = run(tmp_path)
    assert shown["a-parts"] == [1, 2, 3, 4]
    assert shown["a-complete"] == 200
    assert sorted(shown["b-parts"]) == list(range(1, 10))
    assert shown["b-complete"] == 200
    assert shown["b-read"] == SIZE
    assert shown["c-abort"] == 200
    exists, missing, refused = shown["c-check"]
    assert (exists, missing) == (False, 404)
    assert "aborted" in refused
    assert shown["d-fields"] == (SIZE, 9, 9, "head")
    assert shown["e-progress"] == (["send", "complete", "verify", "done"], True)
    assert shown["f-array"] == (True, 4, "memory")


def stored() -> Any:
    reads: Any = nbformat.reads  # typed, but not in full
    return reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)


def run(place: Path) -> dict[str, Any]:
    """What each cell shows, by the cell's id; an error in a cell is raised with its text."""
    notebook = stored()
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(notebook, km=manager, timeout=CELL_SECONDS, resources={"metadata": {"path": str(place)}})
    # The loop and the kernel's sockets end here: left to nbclient they would last until the process exits.
    asyncio.run(client.async_execute(cleanup_kc=True))
    shown: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", f"{cell.id}: {output.evalue}"
            assert output.get("name") != "stderr", f"{cell.id}: {output.text}"
            if output.output_type == "execute_result":
                try:
                    shown[cell.id] = ast.literal_eval(output.data["text/plain"])
                except (SyntaxError, ValueError):
                    shown[cell.id] = output.data["text/plain"]
    return shown
