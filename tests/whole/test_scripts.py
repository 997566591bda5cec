"""Scripts are run by hand, so only this notices that a name they import has moved."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PYTHON = [
    path
    for path in sorted(SCRIPTS.rglob("*"))
    if path.is_file() and (path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/env python"))
]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_what_a_script_takes_from_the_project_is_there(path: Path) -> None:
    taken: dict[str, object] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("icl_local", "tests")):
            for alias in node.names:
                try:
                    found: object = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    found = getattr(importlib.import_module(str(node.module)), alias.name)
                taken[alias.asname or alias.name] = found
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken:
            assert hasattr(taken[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


def test_there_are_scripts_to_look_at() -> None:
    assert len(PYTHON) > 10
