"""The Python of README.md, docs/python.md and the notebook, run as it stands on a tiny model named as the embedded one.

They share one folder, so that what one has generated is there for the others. The probe of the machine and the
verification are left out, answers have eight tokens, and the judge gives short reasons.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

import icl_local as icl

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("short_reasons")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(autouse=True)
def in_the_folder(folder: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ICL_MODELS_FILE", str(folder / "models.toml"))
    models = "".join(f'[smollm2-135m.{variant}]\ngguf = "{tiny_gguf}"\n' for variant in ("base", "instruct"))
    (folder / "models.toml").write_text(models)
    run = icl.run
    monkeypatch.setattr(icl, "run", lambda db, **named: run(db, **{**named, "max_tokens": 8}, probe=False, verify=0))


def execute(code: str, names: dict[str, Any]) -> Any:
    """Run ``code`` and return the value of its last expression, as a notebook cell does."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<document>", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<document>", "eval"), names)


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_of_a_document_runs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), flags=re.M | re.S)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        execute(block, names)
    assert "Table 1. Scores in English" in capsys.readouterr().out
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_studies_of_the_lab_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        execute(block, names)
    printed = capsys.readouterr().out
    methods, variance = printed.index("Parameters of methods"), printed.index("Variance between examples")
    assert "urial[k=2,pool=demos]" in printed[variance:]
    rows = re.findall(r"^urial +k +(\d) +contains ", printed[methods:variance], flags=re.M)
    assert rows == ["0", "1", "2"]
    assert len(names["effects"]) == 2


def test_the_readme_and_the_page_begin_with_the_same_lines() -> None:
    first = [
        re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), flags=re.M | re.S)[0]
        for name in ("README.md", "docs/python.md")
    ]
    assert first[0] == first[1]
    assert len([line for line in first[0].splitlines() if line.startswith(("icl.", "print(icl."))]) == 5


def test_the_notebook_runs_and_shows_a_table_and_a_figure() -> None:
    notebook = json.loads((ROOT / "examples" / "first_study.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    shown = [execute("".join(cell["source"]), names) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    tables = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert len(tables) >= 3
    assert any("Table 1" in table and "<td>" in table for table in tables)
    assert [value._repr_svg_()[:4] for value in shown if hasattr(value, "_repr_svg_")] == ["<svg"]
    assert "done, 2 new of 2" in repr(shown[1]) or "done, 0 new of 2" in repr(shown[1])


def test_the_page_names_every_function() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert {name for name in icl.__all__ if f"| `{name}(" in page} == set(icl.__all__) - {"__version__"}
