"""The house stays in order: short functions, short files, few arrows between rooms, Dagster where assets are declared."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("training", "evaluation", "assets", "orchestration")
DECLARES = {"definitions.py", "partitions.py", "checks.py", "configs.py"}
"""Files of an asset group that may know Dagster."""
LONGEST_BODY, LONG_BODY, LONGEST_FILE = 60, 20, 400
MOST_ARROWS = 142
"""Between rooms of training: half of the 238 that its flat modules had, the twelve of layout, the five of localisation and the six of depth."""


def _modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names of all modules that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement behind the docstring to the last."""
    has_docstring = ast.get_docstring(function) is not None and len(function.body) > 1
    first = function.body[1 if has_docstring else 0]
    return (function.end_lineno or first.lineno) - first.lineno + 1


@pytest.fixture(scope="module")
def bodies() -> dict[str, int]:
    """Lines of the body of every function, by file, line and name."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": _body_lines(node)
        for room in ROOMS
        for path in _modules(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_functions_are_short(bodies: dict[str, int]) -> None:
    too_long = {name: lines for name, lines in bodies.items() if lines > LONGEST_BODY}
    assert not too_long
    in_order = sorted(bodies.values())
    assert in_order[int(0.9 * len(in_order))] <= LONG_BODY


def test_files_are_short() -> None:
    lines = {
        str(path): len(path.read_text(encoding="utf-8").splitlines()) for r in ROOMS for path in _modules(r)
    }
    assert not {path: count for path, count in lines.items() if count > LONGEST_FILE}


def test_dagster_is_known_where_assets_are_declared() -> None:
    others = [path for path in _modules("assets") if path.name not in DECLARES]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in others}
    knowing = [
        str(path.relative_to(ROOT))
        for path, tree in trees.items()
        if any(name.split(".")[0] == "dagster" for name in _imported(tree))
    ]
    assert not knowing


def test_rooms_of_training_know_few_others() -> None:
    rooms = {path.stem for path in (ROOT / "training").iterdir() if path.suffix == ".py" or path.is_dir()}
    arrows = set()
    for path in _modules("training"):
        own = path.relative_to(ROOT / "training").parts[0].removesuffix(".py")
        for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] == "training" and parts[1] in rooms and parts[1] != own:
                arrows.add((own, parts[1]))
    assert len(arrows) <= MOST_ARROWS
