"""Imports point down the map: what the tree says about the data's way is true."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmpu

PACKAGE = Path(fastmpu.__file__).parent

# Layer -> the layers of fastmpu that it may import. A layer is a module or a package right below `fastmpu`.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "_sizes": set(),
    "_version": set(),
    "_plan": {"errors", "_sizes"},
    "_source": {"errors", "_sizes"},
    "_checksum": {"errors"},
    "_transport": set(),
    "ais": {"errors", "_transport", "_version"},
    "_upload": {"errors", "_sizes", "_plan", "_source", "_checksum", "_transport", "ais"},
    "mock": set(),
    "_bench": {"errors", "_sizes", "_version", "_plan", "_upload", "ais", "mock"},
    "_cli": {"errors", "_sizes", "_version", "_upload", "ais", "mock", "_bench"},
    "__init__": {"errors", "_version", "_plan", "_upload", "ais", "mock"},
    "__main__": {"_cli"},
}
# The one arrow that points up: `Object.upload`, at call time, since users look for the verb there.
UPWARD = {("ais/object.py", "_upload")}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_layers(path: Path) -> Iterator[str]:
    """Layers that a module imports from fastmpu, at the top or inside functions."""
    inside = path.relative_to(PACKAGE).parent.parts  # the package that relative imports start from
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                if parts[0] == "fastmpu":
                    yield parts[1] if len(parts) > 1 else "__init__"
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                parts = (node.module or "").split(".")
                base = tuple(parts[1:]) if parts[0] == "fastmpu" else None
            else:
                base = (*inside[: len(inside) - node.level + 1], *(node.module.split(".") if node.module else ()))
            if base is None:
                continue
            if base:
                yield base[0]
            else:
                for name in node.names:
                    known = (PACKAGE / f"{name.name}.py").exists() or (PACKAGE / name.name).is_dir()
                    yield name.name if known else "__init__"


def test_every_layer_is_on_the_map() -> None:
    assert {layer_of(path) for path in modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    layer, name = layer_of(path), path.relative_to(PACKAGE).as_posix()
    up = set(imported_layers(path)) - MAY_IMPORT[layer] - {layer}
    assert {one for one in up if (name, one) not in UPWARD} == set()


def test_threads_start_only_where_the_map_says() -> None:
    """Below `_upload` nothing starts a thread; the mock, the demo and the bench say so in their heads."""
    starting = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(word in path.read_text(encoding="utf-8") for word in ("Thread(", "ThreadPool"))
    }
    assert {name for name in starting if name.split("/")[0] not in ("_upload", "_cli", "_bench", "mock")} == set()
