"""docs/architecture.md lists the rooms and the imports between them as the code has them.

`python -m tests.whole.test_architecture --write` writes the generated part of the page again.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "icl_local"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- generated: python -m tests.whole.test_architecture --write -->", "<!-- /generated -->"


def floors() -> list[list[str]]:
    """Return the rooms and ground files of each floor, the top floor first, from the layers in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def rooms() -> list[str]:
    """Return the folders and modules of icl_local by name."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return sorted(folders | {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"})


def files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]


def modules() -> dict[Path, ast.Module]:
    """Return every Python file of icl_local, scripts and tests."""
    texts = {path: path.read_text("utf-8") for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")}
    texts |= {path: path.read_text("utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file()}
    python = [path for path, text in texts.items() if path.suffix == ".py" or text.startswith("#!/usr/bin/env python3")]
    return {path: ast.parse(texts[path]) for path in python}


def names_for_others(room: str) -> set[str]:
    """Return the names that the __init__ of a room imports from its own files."""
    nodes = ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")).body
    own = [
        node
        for node in nodes
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"icl_local.{room}.")
    ]
    return {alias.asname or alias.name for node in own for alias in node.names}


def names_used(module: ast.Module) -> set[tuple[str, str]]:
    """Return (room, name) of what a file imports from a room, or reads as an attribute of one that it imports."""
    nodes = list(ast.walk(module))
    found, called = set(), {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "icl_local":
            called |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("icl_local."):
            found |= {(str(node.module).removeprefix("icl_local."), alias.name) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            found.add((called[node.value.id], node.attr))
    return found


def purpose(room: str) -> str:
    """Return the first line of the docstring of a room or ground file."""
    folder = PACKAGE / room / "__init__.py"
    text = (folder if folder.exists() else PACKAGE / f"{room}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def imported(path: Path) -> set[str]:
    """Return the rooms that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {parts[1] for name in names if (parts := name.split("."))[0] == "icl_local" and len(parts) > 1}
    return found & set(rooms())


def arrows() -> dict[str, set[str]]:
    """Return for each room the other rooms that it imports."""
    return {room: set().union(*map(imported, files(room))) - {room} for room in rooms()}


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = set(), list(graph[start])
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += graph[room]
    return found


def needed(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows that do not follow from longer paths."""
    return [
        (room, to) for room in graph for to in sorted(graph[room])
        if not any(to in reachable(graph, via) for via in graph[room] - {to})
    ]  # fmt: skip


def render() -> str:
    """Return the generated part of the page: a table of the rooms and a graph; imports of ground files are left out."""
    graph, levels = arrows(), floors()
    ground = {room for room in graph if not (PACKAGE / room).is_dir()}
    lines = ["| floor | room | purpose | imports |", "|---|---|---|---|"]
    lines.append(f"| - | `__init__.py` | The front door. | {listed(imported(PACKAGE / '__init__.py') - ground)} |")
    for floor, names in zip(range(len(levels), 0, -1), levels, strict=True):
        for room in names:
            name = f"`{room}.py`" if room in ground else f"`{room}/`"
            lines.append(f"| {floor} | {name} | {purpose(room)} | {listed(graph[room] - ground)} |")
    walked = {room: to - ground for room, to in graph.items() if room not in ground}
    lines += ["", "```mermaid", "graph TD"]
    lines += [f"    {room} --> {to}" for room, to in needed(walked)]
    return "\n".join([*lines, "```"])


def listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "-"


def split_page() -> tuple[str, str, str]:
    """Return the page before, inside and after the marks."""
    before, _, rest = PAGE.read_text("utf-8").partition(f"{BEGIN}\n")
    inside, _, after = rest.partition(f"\n{END}")
    return before, inside, after


def test_the_page_shows_the_rooms_and_imports_of_the_code() -> None:
    assert split_page()[1] == render(), "run: python -m tests.whole.test_architecture --write"


def test_every_room_has_a_floor_and_a_purpose() -> None:
    assert sorted(room for floor in floors() for room in floor) == rooms()
    assert all(purpose(room).endswith(".") for room in rooms())


def test_imports_point_down() -> None:
    floor_of = {room: floor for floor, names in enumerate(reversed(floors())) for room in names}
    assert [(room, to) for room, found in arrows().items() for to in found if floor_of[to] >= floor_of[room]] == []


def test_what_a_room_imports_for_others_is_used_by_one() -> None:
    used: dict[str, set[str]] = {}
    for path, module in modules().items():
        for room, name in names_used(module):
            if PACKAGE / room not in path.parents:
                used.setdefault(room, set()).add(name)
    folders = [room for room in rooms() if (PACKAGE / room).is_dir()]
    assert {room: left for room in folders if (left := names_for_others(room) - used.get(room, set()))} == {}


def test_mypy_lets_others_use_the_imports_of_the_rooms_that_have_such() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (listed,) = (one["module"] for one in settings["tool"]["mypy"]["overrides"] if "implicit_reexport" in one)
    having = [room for room in rooms() if (PACKAGE / room).is_dir() and names_for_others(room)]
    assert listed == [f"icl_local.{room}" for room in having]


def test_an_import_inside_a_function_is_an_arrow(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import os\nfrom icl_local import store\n\ndef f():\n    from icl_local.engine import Worker\n")
    assert imported(module) == {"store", "engine"}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.whole.test_architecture --write")
    before, _, after = split_page()
    PAGE.write_text(f"{before}{BEGIN}\n{render()}\n{END}{after}", "utf-8")
