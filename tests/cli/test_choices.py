"""icl run --decode choices from the command line, to the table of its accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import icl_local
from icl_local.running import CellResult
from tests.shared import Run

pytestmark = pytest.mark.usefixtures("small_probe")


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    path = tmp_path / "quiz.jsonl"
    items = [
        {"id": i, "question": f"Is {i} even?", "choices": ["yes", "no"], "answer": "AB"[i % 2], "reference": "yes"}
        for i in range(3)
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_choices_are_picked_judged_and_tabulated(icl: Run, tmp_path: Path, exact_gguf: Path, quiz: Path) -> None:
    db = tmp_path / "x.duckdb"
    run: list[Any] = ["run", "--model", exact_gguf, "--method", "zero-shot", "--queries", quiz, "--db", db]
    code, _, err = icl(*run, "--map", "instruction=question", "--decode", "choices", "--no-probe")
    assert (code, err.splitlines()[-1]) == (0, f"3 new responses in {db}; next: icl judge --judge rules --db {db}")
    assert icl("judge", "--judge", "rules", "--db", db)[0] == 0
    assert "accuracy_bytes" in icl("tables", "metrics", "--db", db, "--format", "csv")[1]
    code, _, err = icl(*run, "--decode", "choices", "--temperature", 1)
    assert (code, "--decode choices generates no text" in err) == (1, True)


def test_a_run_in_which_every_cell_failed_names_no_next_command(
    icl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = CellResult(None, "failed", 0, 3, None)  # type: ignore[arg-type]
    monkeypatch.setattr(icl_local, "run", lambda db, **given: icl_local.RunResult(db, (failed,)))
    db = tmp_path / "x.duckdb"
    assert icl("run", "--model", "m.gguf", "--db", db) == (1, "", f"0 new responses in {db}\n")
