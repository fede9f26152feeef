"""Assets are plain functions; Dagster binds them in few files, and what it binds reads in a minute."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ASSETS = Path(__file__).parents[2] / "assets"
NAME_DAGSTER = {"definitions.py", "partitions.py", "checks.py", "configs.py"}
LONGEST_BODY = 40


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ASSETS.rglob("*.py")):
        yield path.relative_to(ASSETS.parent), ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> set[str]:
    """Packages that a module imports anywhere, also in functions and for types alone."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return 1 + (function.end_lineno or 0) - body[0].lineno if body else 0


def test_dagster_is_named_where_assets_are_bound_and_nowhere_else() -> None:
    named = {path for path, module in modules() if "dagster" in imported(module)}
    assert len(named) > 10
    assert [str(path) for path in sorted(named) if path.name not in NAME_DAGSTER] == []


def test_bodies_of_definitions_are_short() -> None:
    long = [
        f"{path}: {node.name} has {body_lines(node)} lines"
        for path, module in modules()
        if path.name == "definitions.py"
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and body_lines(node) > LONGEST_BODY
    ]
    assert long == []
