"""docs/mock-faults.md tells the truth: the menu, the examples, the record's fields, the control port."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastmpu.mock import control, faults, parse_fault
from fastmpu.mock.fault_menu import MENU, Kind
from fastmpu.mock.operations import OPS
from fastmpu.mock.truth import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "mock-faults.md"


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def rows() -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text().splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines if len(cells) == 4}


def parameters_of(kind: Kind) -> str:
    return ", ".join(f"`{one.name}={one.show(one.default)}`" for one in kind.parameters) or "-"


@pytest.mark.parametrize("kind", MENU.values(), ids=lambda kind: kind.name)
def test_each_fault_stands_in_the_table_with_its_parameters_and_a_good_example(kind: Kind) -> None:
    parameters, what, example = rows()[kind.name]
    assert parameters == parameters_of(kind)
    assert what
    assert parse_fault(example.strip("`")).kind == kind.name


def test_nothing_else_stands_in_the_table() -> None:
    assert list(rows()) == list(MENU)


def test_ops_fields_and_requests_are_named() -> None:
    page = text()
    for word in (*OPS, *FIELDS, *faults._MATCH_KEYS):
        assert f"`{word}`" in page, word
    requests = re.findall(r"`((?:GET|POST|DELETE) [^`]+)`", control.__doc__ or "")
    assert len(requests) > 10
    for request in requests:
        assert f"`{request}`" in page, request


def test_the_worked_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "docs"})
