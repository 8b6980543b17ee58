"""The mock answers as AIStore v5.0 did when the cases of tests/conformance were recorded. One test a case."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastmpu.mock import Cluster

KIT = Path(__file__).parents[1] / "conformance"
CASES = {
    f"{suite['topic']}/{case['name']}": case
    for suite in (json.loads(path.read_text(encoding="utf-8")) for path in sorted((KIT / "cases").glob("*.json")))
    for case in suite["cases"]
}


def load_kit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_run", KIT / "run.py")
    assert spec
    assert spec.loader
    kit = importlib.util.module_from_spec(spec)
    sys.modules["conformance_run"] = kit  # its dataclasses look their module up
    spec.loader.exec_module(kit)
    return kit


kit = load_kit()


@pytest.fixture(scope="module", params=["memory", "directory"])
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("mock") if request.param == "directory" else None
    with Cluster(directory=directory) as cluster:
        yield kit.Cluster(cluster.endpoint)


def test_no_case_is_left_out() -> None:
    assert len(CASES) == 122


@pytest.mark.parametrize("name", CASES)
def test_case(judged: Any, name: str) -> None:
    assert kit.Run(judged, CASES[name]).run(record=False) == []
